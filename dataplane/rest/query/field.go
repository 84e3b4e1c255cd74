package query

import (
	"strconv"
	"strings"
)

// field = name { ("->" | "->>") operand }
func (s *scanner) field() Field {
	return Field{Name: s.name(), Path: s.path()}
}

func (s *scanner) path() []Step {
	var path []Step
	for s.err == nil && s.take("->") {
		step := Step{Text: s.take(">")}
		if !s.index(&step) {
			step.Key = s.jsonKey()
		}
		path = append(path, step)
	}
	return path
}

// index reads an array index, or nothing when what comes is a key.
func (s *scanner) index(step *Step) bool {
	start, digits := s.pos, 0
	s.take("-")
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
		digits++
	}
	rest := s.rest()
	ends := rest == "" || strings.ContainsRune(".,)", rune(rest[0])) || strings.HasPrefix(rest, "->") || strings.HasPrefix(rest, "::")
	if digits == 0 || !ends {
		s.pos = start
		return false
	}
	n, err := strconv.ParseInt(s.text[start:s.pos], 10, 32)
	if err != nil {
		s.pos = start
		s.fail("an index of 32 bits")
		return false
	}
	step.IsIndex, step.Index = true, int32(n)
	return true
}

const jsonKeyName = "any non reserved character different from: .,>()"

func (s *scanner) jsonKey() string {
	if s.peek() == '"' {
		return s.quoted()
	}
	const stops = "(-:.,>)"
	parts := []string{strings.TrimSpace(s.until(stops))}
	for parts[0] != "" && s.dash() {
		part := s.until(stops)
		if part == "" {
			s.fail(jsonKeyName)
		}
		parts = append(parts, strings.TrimSpace(part))
	}
	key := strings.Join(parts, "-")
	if key == "" {
		s.fail(jsonKeyName)
	}
	return key
}

// order = term { "," term }
func (s *scanner) order() []Order {
	var terms []Order
	for {
		terms = append(terms, s.orderTerm())
		s.space()
		if !s.take(",") {
			break
		}
	}
	s.end(`delimiter (.), "," or end of input`)
	return terms
}

// term = (field | relation "(" field ")") [ "." direction ] [ "." nulls ]
func (s *scanner) orderTerm() Order {
	o := Order{Field: s.field()}
	if len(o.Field.Path) == 0 && s.take("(") {
		o.Relation, o.Field = o.Field.Name, s.field()
		s.must(")", `")"`)
	}
	expected := `"asc", "desc", "nullsfirst" or "nullslast"`
	for s.err == nil && s.take(".") {
		start := s.pos
		switch word := s.word(); {
		case (word == "asc" || word == "desc") && strings.HasPrefix(expected, `"asc"`):
			o.Desc = word == "desc"
			expected = `"nullsfirst" or "nullslast"`
		case word == "nullsfirst" && expected != "":
			o.Nulls, expected = NullsFirst, ""
		case word == "nullslast" && expected != "":
			o.Nulls, expected = NullsLast, ""
		default:
			s.pos = start
			if expected == "" {
				expected = `"," or end of input`
			}
			s.fail(expected)
		}
	}
	return o
}

// names = name { "," name }
func (s *scanner) names() []string {
	names := []string{s.name()}
	for s.space(); s.take(","); s.space() {
		names = append(names, s.name())
	}
	return names
}
