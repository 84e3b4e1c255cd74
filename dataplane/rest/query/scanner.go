package query

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth bounds the nesting of conditions and embeds, so that no query string
// exhausts the stack.
const maxDepth = 64

// SyntaxError is a query string that the grammar refuses.
type SyntaxError struct {
	What   string // what was being parsed: "filter", "select parameter", …
	Text   string // the text that was being parsed
	Column int    // of Text, in characters from 1
	// Unexpected is what was found, quoted, or "end of input"; Expected what could have been there.
	Unexpected, Expected string

	details string // in place of Unexpected and Expected
	bounds  bool   // it is not the grammar that refuses
}

// Error is the message of PostgREST's answer.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("\"failed to parse %s (%s)\" (line 1, column %d)", e.What, clip(e.Text), e.Column)
}

// Details is the second line of PostgREST's answer.
func (e *SyntaxError) Details() string {
	if e.details != "" {
		return e.details
	}
	return "unexpected " + e.Unexpected + " expecting " + e.Expected
}

// clip bounds hostile input that ends up in an error text.
func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// scanner reads one text from left to right. The first failure sticks.
type scanner struct {
	what  string
	head  string // what PostgREST would have put before the text
	text  string
	pos   int
	depth int
	err   *SyntaxError
	// committed: what was read can be nothing but a filter.
	committed bool
}

func (s *scanner) fail(expected string) {
	if s.err != nil {
		return
	}
	found := "end of input"
	if s.pos < len(s.text) {
		_, n := utf8.DecodeRuneInString(s.text[s.pos:])
		found = `"` + s.text[s.pos:s.pos+n] + `"`
	}
	s.err = &SyntaxError{
		What: s.what, Text: s.text, Column: utf8.RuneCountInString(s.text[:s.pos]) + 1,
		Unexpected: found, Expected: expected,
	}
}

func (s *scanner) done() bool { return s.pos >= len(s.text) || s.err != nil }

// peek is the next byte, or 0 at the end. NUL never occurs in a text.
func (s *scanner) peek() byte {
	if s.done() {
		return 0
	}
	return s.text[s.pos]
}

func (s *scanner) rest() string {
	if s.done() {
		return ""
	}
	return s.text[s.pos:]
}

// take consumes token if it comes next.
func (s *scanner) take(token string) bool {
	if !strings.HasPrefix(s.rest(), token) {
		return false
	}
	s.pos += len(token)
	return true
}

func (s *scanner) must(token, expected string) {
	if !s.take(token) {
		s.fail(expected)
	}
}

func (s *scanner) space() {
	for c := s.peek(); c == ' ' || c == '\t'; c = s.peek() {
		s.pos++
	}
}

// enter counts a level of nesting; the caller leaves by s.depth--.
func (s *scanner) enter() {
	if s.depth++; s.depth > maxDepth {
		s.fail(fmt.Sprintf("at most %d levels of nesting", maxDepth))
		s.err.bounds = true
	}
}

// end fails unless all of the text was read.
func (s *scanner) end(expected string) {
	if s.err == nil && s.pos < len(s.text) {
		s.fail(expected)
	}
}

// word reads ASCII letters and '_'.
func (s *scanner) word() string {
	start := s.pos
	for c := s.peek(); c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'; c = s.peek() {
		s.pos++
	}
	return s.text[start:s.pos]
}

const fieldName = `field name (* or [a..z0..9_$])`

// name reads the name of a column or relation: quoted, or of letters, digits,
// '_', '$', inner spaces, and single dashes between them.
func (s *scanner) name() string {
	s.space()
	if s.peek() == '"' {
		name := s.quoted()
		if name == "" {
			s.fail(fieldName)
		}
		s.space()
		return name
	}
	start := s.pos
	for s.plains(); s.pos > start && s.dash(); {
		if part := s.pos; s.plains() == part {
			s.fail("letter or digit")
		}
	}
	name := strings.TrimRight(s.text[start:s.pos], " ")
	if name == "" {
		s.fail(fieldName)
	}
	return name
}

// dash takes one that begins no arrow.
func (s *scanner) dash() bool { return !strings.HasPrefix(s.rest(), "->") && s.take("-") }

// plains skips letters, digits and the like, and returns where it came to.
func (s *scanner) plains() int {
	for !s.done() {
		if c := s.text[s.pos]; c < utf8.RuneSelf {
			if !plain(c) {
				break
			}
			s.pos++
			continue
		}
		r, n := utf8.DecodeRuneInString(s.text[s.pos:])
		if !unicode.IsLetter(r) {
			break
		}
		s.pos += n
	}
	return s.pos
}

// plain are the ASCII characters of a name without quotes.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c == ' '
}

// identifier reads the name of a type or configuration.
func (s *scanner) identifier() string {
	start := s.pos
	name := strings.TrimSpace(s.text[start:s.plains()])
	if name == "" {
		s.fail("letter or digit")
	}
	return name
}

// quoted reads "…" in which a backslash takes the next character as it is.
func (s *scanner) quoted() string {
	s.must(`"`, `"`)
	var b strings.Builder
	for !s.done() {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '"':
			return b.String()
		case c == '\\' && !s.done():
			b.WriteByte(s.text[s.pos])
			s.pos++
		default:
			b.WriteByte(c)
		}
	}
	s.fail(`"\"" at the end of a quoted value`)
	return ""
}

// until reads up to the first of stops, or the end.
func (s *scanner) until(stops string) string {
	rest := s.rest()
	n := strings.IndexAny(rest, stops)
	if n < 0 {
		n = len(rest)
	}
	s.pos += n
	return rest[:n]
}
