// Package policy judges requests by Cedar policies, which narrow what roles
// allow. The control plane compiles them before it takes them in, nodes
// evaluate them, and `tenant-ops policy test` does both without any server.
//
// A request is judged by the fleet's policies and by its tenant's, each set for
// itself, and passes if both let it. A set lets pass what one of its permits
// covers and none of its forbids; a set without a permit of its own has the
// built-in one, that covers everything. So no policies allow what roles allow,
// and a tenant's can never widen what the fleet's leave.
//
// Import law: of this module, policy imports shardmap and internal/access only.
package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/freehold-db/freehold/internal/access"
)

// Built-in policies, by names that no policy of anybody can have.
const (
	guardName = "_tenant"
	baseName  = "_base"
	guardText = `forbid (principal, action, resource) unless { principal.tenant == resource.tenant };`
	baseText  = `permit (principal, action, resource);`
)

// Set is a document's policies, compiled. It is never changed, and safe for concurrent use.
type Set struct {
	policies *cedar.PolicySet
	own      int // statements beside the built-in ones
}

// Compile checks and compiles policies. Its error names the policy, and the
// place in it. Entities and actions that no request can have are refused: a
// forbid with a misspelt one would never forbid.
func Compile(policies []access.Policy) (*Set, error) {
	s := &Set{policies: cedar.NewPolicySet()}
	permits := false
	for _, p := range policies {
		list, err := cedar.NewPolicyListFromBytes(p.Name, []byte(p.Text))
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", p.Name, err)
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("policy %s has no statement", p.Name)
		}
		for i, statement := range list {
			if err := checkWords(statement); err != nil {
				return nil, fmt.Errorf("policy %s: %w", place(p.Name, statement), err)
			}
			s.policies.Add(cedar.PolicyID(p.Name+"#"+strconv.Itoa(i)), statement)
			permits = permits || statement.Effect() == cedar.Permit
			s.own++
		}
	}
	s.add(guardName, guardText)
	if !permits {
		s.add(baseName, baseText)
	}
	return s, nil
}

func (s *Set) add(name, text string) {
	var p cedar.Policy
	if err := p.UnmarshalCedar([]byte(text)); err != nil { // a bug, and a test's to find
		panic(fmt.Sprintf("policy %s: %v", name, err))
	}
	s.policies.Add(cedar.PolicyID(name), &p)
}

// place names a statement in errors: the policy, and the line it begins in.
func place(name string, p *cedar.Policy) string {
	return fmt.Sprintf("%s, line %d", name, p.Position().Line)
}

// Empty tells whether there is nothing to judge by. A nil set is empty.
func (s *Set) Empty() bool { return s == nil || s.own == 0 }

// Decision is whether a request passes, and why not.
type Decision struct {
	Allowed bool
	// Policies are the names of those that refused it, sorted; empty when
	// nothing permitted it.
	Policies []string
	// Errors say what could not be evaluated. A forbid of which that is true
	// refuses, and a permit does not permit.
	Errors []string
}

// Judge decides about a request by each of the sets: all of them must let it pass.
func Judge(r *Request, sets ...*Set) Decision {
	d := Decision{Allowed: true}
	for _, s := range sets {
		if !s.Empty() {
			s.judge(r, &d)
		}
	}
	slices.Sort(d.Policies)
	d.Policies = slices.Compact(d.Policies)
	return d
}

func (s *Set) judge(r *Request, d *Decision) {
	verdict, why := cedar.Authorize(s.policies, r, cedar.Request{Principal: r.principal.UID, Action: r.action.UID, Resource: r.resource.UID, Context: r.context})
	if verdict == cedar.Deny {
		d.Allowed = false
		for _, reason := range why.Reasons {
			d.Policies = append(d.Policies, nameOf(reason.PolicyID))
		}
	}
	for _, e := range why.Errors {
		name := nameOf(e.PolicyID)
		d.Errors = append(d.Errors, fmt.Sprintf("policy %s, line %d: %s", name, e.Position.Line, e.Message))
		if s.policies.Get(e.PolicyID).Effect() == cedar.Forbid {
			d.Allowed = false
			d.Policies = append(d.Policies, name)
		}
	}
}

func nameOf(id cedar.PolicyID) string {
	name, _, _ := strings.Cut(string(id), "#")
	return name
}

// checkWords refuses a statement that speaks of what no request has.
func checkWords(p *cedar.Policy) error {
	b, err := p.MarshalJSON()
	if err != nil {
		return err
	}
	var tree map[string]any
	if err := json.Unmarshal(b, &tree); err != nil {
		return err
	}
	delete(tree, "annotations") // may be called anything
	return walk(tree)
}

// walk looks at every entity and entity type in a policy's JSON format.
func walk(node any) error {
	switch n := node.(type) {
	case []any:
		for _, v := range n {
			if err := walk(v); err != nil {
				return err
			}
		}
	case map[string]any:
		kind, isEntity := n["type"].(string)
		id, hasID := n["id"].(string)
		if isEntity && hasID && len(n) == 2 {
			return checkEntity(kind, id)
		}
		if kind, ok := n["entity_type"].(string); ok && !slices.Contains(entityTypes, kind) {
			return unknownType(kind)
		}
		for _, v := range n {
			if err := walk(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkEntity(kind, id string) error {
	if !slices.Contains(entityTypes, kind) {
		return unknownType(kind)
	}
	if kind == typeAction && !slices.Contains(actions, id) {
		return fmt.Errorf("there is no Action::%q, only %s", id, strings.Join(actions, ", "))
	}
	return nil
}

func unknownType(kind string) error {
	return fmt.Errorf("there are no entities of type %.60q, only %s", kind, strings.Join(entityTypes, ", "))
}
