package query

import "strings"

const itemEnd = `",", ")" or end of input`

// items = [ item { "," item } ]
func (s *scanner) items() []Item {
	s.enter()
	defer func() { s.depth-- }()
	items := []Item{}
	s.space()
	if c := s.peek(); c == 0 || c == ')' {
		return items
	}
	for s.err == nil {
		items = append(items, s.item())
		s.space()
		if !s.take(",") {
			break
		}
	}
	return items
}

// item = "*" | "..." embed | [ name ":" ] ( embed | column )
func (s *scanner) item() Item {
	s.space()
	if s.take("...") {
		return s.embed(&Embed{Relation: s.name(), Spread: true})
	}
	if s.take("*") {
		s.itemEnds()
		return Star{}
	}
	alias, name := "", s.name()
	if s.peek() == ':' && !strings.HasPrefix(s.rest(), "::") {
		s.pos++
		alias, name = name, s.name()
	}
	switch c := s.peek(); {
	case name == "count" && s.take("()"):
		c := &Column{Alias: alias, Aggregate: Count, AggregateCast: s.cast()}
		s.itemEnds()
		return c
	case c == '!' || c == '(':
		return s.embed(&Embed{Alias: alias, Relation: name})
	}
	return s.column(alias, name)
}

// column = name path [ "::" type ] [ "." aggregate "()" [ "::" type ] ]
func (s *scanner) column(alias, name string) *Column {
	c := &Column{Alias: alias, Field: Field{Name: name, Path: s.path()}, Cast: s.cast()}
	if s.take(".") {
		start := s.pos
		aggregate, ok := aggregates[s.word()]
		if !ok {
			s.pos = start
			s.fail(`"sum", "avg", "count", "max" or "min"`)
		}
		s.must("()", `"()"`)
		c.Aggregate = aggregate
	}
	c.AggregateCast = s.cast() // of no meaning without an aggregate, but allowed
	s.space()
	s.itemEnds()
	return c
}

func (s *scanner) itemEnds() {
	if n := s.peek(); n != 0 && n != ',' && n != ')' {
		s.fail(itemEnd)
	}
}

// embed = relation { "!" ("inner" | "left" | hint) } "(" items ")"
func (s *scanner) embed(e *Embed) *Embed {
	for range 2 {
		if !s.take("!") {
			break
		}
		switch hint := s.name(); hint {
		case "inner":
			e.Join = JoinInner
		case "left":
			e.Join = JoinLeft
		default:
			e.Hint = hint
		}
	}
	s.must("(", `"!" or "("`)
	e.Select = s.items()
	s.must(")", itemEnd)
	return e
}

func (s *scanner) cast() string {
	if !s.take("::") {
		return ""
	}
	return s.identifier()
}
