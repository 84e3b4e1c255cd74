package plan

import (
	"cmp"
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// CallArgs is what a function is called with: named values, a body whose keys
// are the names, or a body that is the one unnamed argument.
type CallArgs struct {
	Named []query.Arg
	// Body is JSON; Raw any other body, whose argument must be of type RawType.
	Body    *body.Body
	Raw     []byte
	RawType string
	// JSON: it came, or would have come, as JSON, and so can be one whole argument.
	JSON bool
	// ReadOnly: the verb changes nothing, whatever the function would.
	ReadOnly bool
}

// Call is a function and its arguments.
type Call struct {
	Function *schema.Function
	// Args are given by name; the values are Texts, or for nil the body's.
	Args  []*schema.Arg
	Texts [][]byte
	Body  []byte
	// Array: the body is one of records, of which the first counts.
	Array bool
	// Whole: the body is the one argument.
	Whole bool
}

// rows tells whether the function returns rows whose columns are known, rather than values.
func (c *Call) rows() bool { return c.Function.Rows != nil && len(c.Function.Rows.Columns) > 0 }

// call resolves a request for a function.
func (t *tree) call() (*Plan, error) {
	args := t.req.Args
	f, whole, err := t.function()
	if err != nil {
		return nil, err
	}
	c := &Call{Function: f, Whole: whole}
	switch {
	case whole && args.Body != nil:
		c.Body = args.Body.Text
	case whole:
		c.Body = args.Raw
	case args.Body != nil && len(args.keys(t.req.Query.Columns)) > 0:
		c.Body, c.Array = args.Body.Text, args.Body.Array
	}
	for i := range f.Args {
		if a := &f.Args[i]; !whole && slices.Contains(args.keys(t.req.Query.Columns), a.Name) {
			c.Args = append(c.Args, a)
			c.Texts = append(c.Texts, args.text(a))
		}
	}
	rows := f.Rows
	if rows == nil {
		rows = &schema.Relation{Name: f.Name}
	}
	p := &Plan{Call: c, Read: Read{From: rows}, Answer: t.req.Answer, ReadOnly: args.ReadOnly || !f.Volatile}
	b := builder{tree: t, relation: rows, read: &p.Read}
	if err := t.build(b); err != nil {
		return nil, err
	}
	where, err := b.predicates(t.req.Query.Root.Where)
	if err != nil {
		return nil, err
	}
	p.Read.Where, p.Read.Page = append(p.Read.Where, where...), t.bounded(t.req.Page)
	if err := cmp.Or(p.negotiate(t.schema, t.req), t.req.Objection); err != nil {
		return nil, err
	}
	if t.req.Answer.MaxAffected >= 0 && !f.SetOf {
		return nil, pgrst.MaxAffectedOfOne()
	}
	return p, t.missing
}

// Called is the function that a request calls.
func Called(s *schema.Schema, req *Request) (*schema.Function, error) {
	f, _, err := (&tree{schema: s, req: req}).function()
	return f, err
}

// function chooses among those of the name by what they are called with.
func (t *tree) function() (f *schema.Function, whole bool, err error) {
	args, name := t.req.Args, t.req.Relation
	keys := args.keys(t.req.Query.Columns)
	all := t.schema.Functions(name)
	var named, unnamed []*schema.Function
	for _, f := range all {
		switch {
		case args.takenWhole(f):
			unnamed = append(unnamed, f)
		case args.Raw == nil && takes(f, keys):
			named = append(named, f)
		}
	}
	if len(named) == 0 {
		named, whole = unnamed, true
	}
	switch len(named) {
	case 1:
		return named[0], whole, nil
	case 0:
		return nil, false, t.noFunction(all, keys)
	}
	signatures := make([]string, len(named))
	for i, f := range named {
		signatures[i] = pgrst.Signature(f)
	}
	return nil, false, pgrst.AmbiguousFunction(signatures)
}

func (t *tree) noFunction(all []*schema.Function, keys []string) error {
	name, hint := t.req.Relation, ""
	switch {
	case t.req.Args.RawType != "": // its one argument has no name
	case len(all) > 0:
		if arguments := schema.SuggestArguments(all, keys); arguments != "" {
			hint = name.String() + arguments
		}
	default:
		if suggestion := t.schema.SuggestFunction(name); suggestion != "" {
			hint = schema.Name{Schema: name.Schema, Name: suggestion}.String()
		}
	}
	return pgrst.UnknownFunction(t.req.Relation.Schema, t.req.Relation.Name, keys, t.req.Args.RawType, t.req.Args.JSON, hint)
}

// keys are the sorted names of what is given.
func (a *CallArgs) keys(columns []string) []string {
	var keys []string
	switch {
	case a.Body != nil && columns != nil:
		keys = slices.Clone(columns)
	case a.Body != nil:
		keys = slices.Clone(a.Body.AllKeys())
	default:
		for _, arg := range a.Named {
			keys = append(keys, arg.Name)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// text is the value given for an argument by name: all of them when it is
// variadic, or else the last.
func (a *CallArgs) text(arg *schema.Arg) []byte {
	if a.Body != nil {
		return nil
	}
	var values []string
	for _, n := range a.Named {
		if n.Name == arg.Name {
			values = append(values, n.Value)
		}
	}
	if arg.Variadic {
		return arrayLiteral(values)
	}
	return []byte(values[len(values)-1])
}

// takenWhole tells whether f has one unnamed argument for such a body.
func (a *CallArgs) takenWhole(f *schema.Function) bool {
	if a.ReadOnly || len(f.Args) != 1 || f.Args[0].Name != "" {
		return false
	}
	base := f.Args[0].Base
	if a.Body != nil {
		return a.JSON && (base == "json" || base == "jsonb")
	}
	return a.Raw != nil && base == a.RawType
}

// takes tells whether f can be called with just these names.
func takes(f *schema.Function, keys []string) bool {
	for _, a := range f.Args {
		if _, given := slices.BinarySearch(keys, a.Name); !given && !a.Optional {
			return false
		}
	}
	return !slices.ContainsFunc(keys, func(key string) bool {
		return !slices.ContainsFunc(f.Args, func(a schema.Arg) bool { return a.Name == key && key != "" })
	})
}
