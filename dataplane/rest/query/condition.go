package query

import "strings"

const operator = "operator (eq, gt, ...)"

// filter reads the right side of `field=…`, where the operand takes the rest of
// the text, or (inside a group) ends at ',' or ')'. As with PostgREST, what
// follows a list or an `is` value outside of a group is ignored.
//
//	filter  = [ "not." ] op [ "(" modifier ")" ] "." operand
func (s *scanner) filter(field Field, inGroup bool) *Filter {
	f := &Filter{Field: field}
	if s.take("not.") {
		f.Not, s.committed = true, true
	}
	start := s.pos
	info, ok := ops[s.word()]
	if !ok {
		s.pos = start
		if f.Not {
			s.fail(operator)
		} else {
			s.fail(`"not" or ` + operator)
		}
		return f
	}
	f.Op = info.op
	if (info.quant || info.config) && s.take("(") {
		s.modifier(f, info)
		s.must(")", `")"`)
	}
	s.must(".", "delimiter (.)")
	switch {
	case f.Op == In:
		s.committed = true
		f.Values = s.list()
		s.space()
	case f.Op == Is:
		s.committed = true
		f.Is = s.isValue()
	case inGroup:
		f.Value = s.operand()
	default:
		f.Value = s.rest()
		s.pos = len(s.text)
	}
	return f
}

func (s *scanner) modifier(f *Filter, info opInfo) {
	if info.config {
		f.Config = s.identifier()
		return
	}
	switch {
	case s.take("any"):
		f.Quant = Any
	case s.take("all"):
		f.Quant = All
	default:
		s.fail(`"any" or "all"`)
	}
}

const isOperands = "isVal: (null, not_null, true, false, unknown)"

func (s *scanner) isValue() IsValue {
	rest := s.rest()
	for _, v := range isValues {
		if len(rest) >= len(v.name) && strings.EqualFold(rest[:len(v.name)], v.name) {
			s.pos += len(v.name)
			return v.is
		}
	}
	s.fail(isOperands)
	return Null
}

// list = "(" element { "," element } ")"
func (s *scanner) list() []string {
	s.space()
	s.must("(", `"("`)
	s.space()
	var values []string
	for {
		values = append(values, s.element())
		if !s.take(",") {
			break
		}
	}
	s.must(")", `"," or ")"`)
	if len(values) == 1 && values[0] == "" {
		return []string{}
	}
	return values
}

// element is quoted when the quotes end where the element ends; otherwise
// quotes are characters like any other.
func (s *scanner) element() string {
	if s.peek() == '"' {
		attempt := *s
		if v := attempt.quoted(); attempt.err == nil && (attempt.done() || strings.IndexByte(",)", attempt.peek()) >= 0) {
			s.pos = attempt.pos
			return v
		}
	}
	return s.until(",)")
}

// operand of a filter inside a group: as in a list, or an array literal.
func (s *scanner) operand() string {
	if rest := s.rest(); strings.HasPrefix(rest, "{") {
		if n := strings.IndexAny(rest[1:], "{}"); n >= 0 && rest[1+n] == '}' {
			s.pos += n + 2
			return rest[:n+2]
		}
	}
	return s.element()
}

// group = ( "and" | "or" ) "(" condition { "," condition } ")"
func (s *scanner) group(not, or bool) *Group {
	s.enter()
	defer func() { s.depth-- }()
	g := &Group{Not: not, Or: or}
	s.space()
	s.must("(", `"("`)
	s.space()
	for s.err == nil {
		g.Terms = append(g.Terms, s.condition())
		s.space()
		if !s.take(",") {
			break
		}
		s.space()
	}
	s.must(")", `"," or ")"`)
	s.space()
	return g
}

// condition = [ "not." ] group | field "." filter
func (s *scanner) condition() Condition {
	for _, g := range [...]struct {
		head    string
		not, or bool
	}{{"and", false, false}, {"or", false, true}, {"not.and", true, false}, {"not.or", true, true}} {
		if after, ok := strings.CutPrefix(s.rest(), g.head); ok && strings.HasPrefix(strings.TrimLeft(after, " \t"), "(") {
			s.pos += len(g.head)
			return s.group(g.not, g.or)
		}
	}
	if c := s.peek(); c == ')' || c == 0 {
		s.fail("field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)")
	}
	field := s.field()
	s.space()
	s.must(".", "delimiter (.)")
	return s.filter(field, true)
}
