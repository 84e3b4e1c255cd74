package query

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxParams bounds the parameters of one query string.
const maxParams = 1000

// Parse reads a raw query string (without the '?'). Its error is a [*SyntaxError].
// As with PostgREST, a parameter without '=' is ignored, and of several
// parameters that may be given once the first counts, but for limit and offset.
func Parse(raw string) (*Query, error) { return parse(raw, &Query{}) }

// ParseCall is Parse for a function that is called by GET: a parameter that is
// no filter is an argument.
func ParseCall(raw string) (*Query, error) { return parse(raw, &Query{Args: []Arg{}}) }

func parse(raw string, q *Query) (*Query, error) {
	seen := 0
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if seen++; seen > maxParams {
			return nil, &SyntaxError{What: "query string", Text: pair, Column: 1,
				Unexpected: `"&"`, Expected: "at most " + strconv.Itoa(maxParams) + " parameters"}
		}
		key, err := decode(key)
		if err != nil {
			return nil, err
		}
		value, err = decode(value)
		if err != nil {
			return nil, err
		}
		if err := q.param(key, value); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// decode undoes URL encoding and refuses what is no text to Postgres.
func decode(s string) (string, error) {
	s = Unescape(s)
	if at := strings.IndexByte(s, 0); at >= 0 || !utf8.ValidString(s) {
		return "", &SyntaxError{What: "query string", Text: strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD"), Column: 1,
			Unexpected: "NUL or invalid UTF-8", Expected: "valid UTF-8 text"}
	}
	return s, nil
}

// Unescape undoes URL encoding. As with PostgREST, a '%' without two
// hexadecimal digits is itself.
func Unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			out = append(out, ' ')
		case '%':
			if n, err := strconv.ParseUint(s[i+1:min(i+3, len(s))], 16, 8); err == nil && i+2 < len(s) {
				out, i = append(out, byte(n)), i+2
				continue
			}
			out = append(out, c)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// param takes one decoded parameter. What a key means is decided by the key
// alone, or by the last part of a dotted key.
func (q *Query) param(key, value string) error {
	switch key {
	case "select":
		if q.Select != nil {
			return nil
		}
		s := scanner{what: "select parameter", text: value}
		if q.Select = s.items(); s.err != nil && unreadable(value) {
			q.Select = []Item{}
			return nil
		}
		return s.result()
	case "columns":
		return once(&q.Columns, "columns parameter", value)
	case "on_conflict":
		return once(&q.OnConflict, "on_conflict parameter", value)
	}
	prefix, last := "", key
	if dot := strings.LastIndexByte(key, '.'); dot >= 0 {
		prefix, last = key[:dot], key[dot+1:]
	}
	switch last {
	case "order":
		return q.order(prefix, value)
	case "limit", "offset":
		return q.page(prefix, last, value)
	case "and", "or":
		return q.logic(prefix, last == "or", value)
	}
	return q.filter(key, value)
}

func once(to *[]string, what, value string) error {
	if *to != nil {
		return nil
	}
	s := scanner{what: what, text: value}
	*to = s.names()
	return s.result()
}

// result is s.err as an error that is nil when there is none.
func (s *scanner) result() error {
	if s.err != nil {
		s.err.explain(s.head + s.text)
		return s.err
	}
	return nil
}

// scope is the scope at path, made when it is new.
func (q *Query) scope(path []string) *Scope {
	if len(path) == 0 {
		return &q.Root
	}
	for i := range q.Embedded {
		if slices.Equal(q.Embedded[i].Path, path) {
			return &q.Embedded[i]
		}
	}
	q.Embedded = append(q.Embedded, Scope{Path: path})
	return &q.Embedded[len(q.Embedded)-1]
}

// treePath reads `a.b.c` into its names.
func treePath(what, text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	s := scanner{what: what, text: text}
	path := []string{s.name()}
	for s.take(".") {
		path = append(path, s.name())
	}
	return path, s.result()
}

func (q *Query) order(prefix, value string) error {
	path, err := treePath("tree path", prefix)
	if err != nil {
		return err
	}
	scope := q.scope(path)
	if scope.Order != nil {
		return nil
	}
	s := scanner{what: "order", text: value}
	scope.Order = s.order()
	return s.result()
}

func (q *Query) page(prefix, which, value string) error {
	path, err := treePath("tree path", prefix)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil { // as with PostgREST, what is no number bounds nothing
		return nil
	}
	scope := q.scope(path)
	to := &scope.Limit
	if which == "offset" {
		to = &scope.Offset
	}
	*to = &n
	return nil
}

// heads are how a group begins, by whether it is negated and by its operator.
var heads = map[bool]map[bool]string{false: {false: "and", true: "or"}, true: {false: "not.and", true: "not.or"}}

func (q *Query) logic(prefix string, or bool, value string) error {
	path, err := treePath("logic path", prefix)
	if err != nil {
		return err
	}
	not := slices.Contains(path, "not")
	path = slices.DeleteFunc(path, func(name string) bool { return name == "not" })
	s := scanner{what: "logic tree", head: heads[not][or], text: value}
	group := s.group(not, or)
	scope := q.scope(path)
	scope.Where = append(scope.Where, group)
	return s.result()
}

func (q *Query) filter(key, value string) error {
	if q.Args != nil {
		s := scanner{what: "filter", text: value}
		if s.filter(Field{}, false); s.err != nil && !s.committed {
			q.Args = append(q.Args, Arg{Name: key, Value: value})
			return nil
		}
	}
	k := scanner{what: "tree path", text: key}
	field := k.field()
	var path []string
	for len(field.Path) == 0 && k.take(".") {
		path = append(path, field.Name)
		field = k.field()
	}
	if err := k.result(); err != nil {
		return err
	}
	s := scanner{what: "filter", text: value}
	f := s.filter(field, false)
	scope := q.scope(path)
	scope.Where = append(scope.Where, f)
	return s.result()
}
