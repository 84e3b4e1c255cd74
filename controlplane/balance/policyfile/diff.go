package policyfile

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"
)

// Change is one value that is not the same in two documents.
type Change struct {
	Path   string `json:"path"`             // like policy.headroom or shards.s1.bytes
	Before string `json:"before,omitempty"` // empty: it was not there
	After  string `json:"after,omitempty"`  // empty: it is not there any more
}

func (c Change) String() string {
	switch {
	case c.Before == "":
		return fmt.Sprintf("+ %s: %s", c.Path, c.After)
	case c.After == "":
		return fmt.Sprintf("- %s: %s", c.Path, c.Before)
	}
	return fmt.Sprintf("~ %s: %s → %s", c.Path, c.Before, c.After)
}

// Diff returns what changes from one document to another, in the order of the paths.
func Diff(before, after *Document) ([]Change, error) {
	was, err := before.values()
	if err != nil {
		return nil, err
	}
	is, err := after.values()
	if err != nil {
		return nil, err
	}
	var paths []string
	for path := range was {
		paths = append(paths, path)
	}
	for path := range is {
		if _, both := was[path]; !both {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	changes := []Change{}
	for _, path := range paths {
		if was[path] != is[path] {
			changes = append(changes, Change{path, was[path], is[path]})
		}
	}
	return changes, nil
}

// values are the document's, by their paths.
func (d *Document) values() (map[string]string, error) {
	text, err := d.Write()
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("read policy back: %w", err)
	}
	values := map[string]string{}
	flatten(values, "", root.Content[0])
	return values, nil
}

func flatten(values map[string]string, path string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if path != "" {
				key = path + "." + key
			}
			flatten(values, key, n.Content[i+1])
		}
		if len(n.Content) == 0 { // a shard or tenant that is named and nothing more
			values[path] = "{}"
		}
	case yaml.SequenceNode:
		text := ""
		for i, item := range n.Content {
			if i > 0 {
				text += "; "
			}
			text += item.Value
		}
		values[path] = text
	default:
		values[path] = n.Value
	}
}
