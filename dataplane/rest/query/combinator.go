package query

import (
	"slices"
	"strconv"
	"strings"
)

// The combinators below read nothing out of a text: they find out where and why
// it is not of a grammar, with the rules by which PostgREST's parser (Parsec)
// merges what could have been there. They are slower than the scanner, which
// reads what is right, and run only on what it refused.

// grammar is a parser: it starts at a character of a text.
type grammar func(text []rune, at int) outcome

// outcome is how far a grammar came. A failure that consumed something is final,
// unless tried; reason is what could have been at the furthest point, also of a success.
type outcome struct {
	ok, consumed bool
	at           int
	reason       reason
}

// reason is what was found at a position, and what was expected there.
type reason struct {
	at    int
	notes []note
}

type note struct {
	kind noteKind
	text string
}

type noteKind int

const (
	found noteKind = iota // by a primitive; "" is the end
	foundInstead
	wanted
)

// merge keeps the reason that is further on, or both.
func (r reason) merge(other reason) reason {
	switch {
	case len(other.notes) == 0 && len(r.notes) > 0:
		return r
	case len(r.notes) == 0 && len(other.notes) > 0:
		return other
	case r.at > other.at:
		return r
	case r.at < other.at:
		return other
	}
	return reason{r.at, slices.Concat(r.notes, other.notes)}
}

// wanting replaces all that was expected by what.
func (r reason) wanting(what string) reason {
	rest := slices.DeleteFunc(slices.Clone(r.notes), func(n note) bool { return n.kind == wanted })
	return reason{r.at, slices.Insert(rest, 0, note{wanted, what})}
}

// String is the reason in words, on one line.
func (r reason) String() string {
	of := func(kind noteKind) (texts []string) {
		for _, n := range r.notes {
			if n.kind == kind && (n.text != "" || kind == found) && !slices.Contains(texts, n.text) {
				texts = append(texts, n.text)
			}
		}
		return texts
	}
	var parts []string
	switch first, instead := of(found), of(foundInstead); {
	case len(instead) > 0:
		parts = append(parts, "unexpected "+alternatives(instead))
	case len(first) > 0 && first[0] == "":
		parts = append(parts, "unexpected end of input")
	case len(first) > 0:
		parts = append(parts, "unexpected "+first[0])
	}
	if expected := of(wanted); len(expected) > 0 {
		parts = append(parts, "expecting "+alternatives(expected))
	}
	if len(parts) == 0 {
		return "unknown parse error"
	}
	return strings.Join(parts, " ")
}

func alternatives(texts []string) string {
	last := len(texts) - 1
	if last == 0 {
		return texts[0]
	}
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}

// all runs grammars one after the other.
func all(parts ...grammar) grammar {
	return func(text []rune, at int) outcome {
		sum := outcome{ok: true, at: at, reason: reason{at: at}}
		for _, part := range parts {
			next := part(text, sum.at)
			if !next.consumed {
				next.reason, next.consumed = sum.reason.merge(next.reason), sum.consumed
			}
			if sum = next; !sum.ok {
				return sum
			}
		}
		return sum
	}
}

// either runs the first grammar that does not fail at its first character.
func either(choices ...grammar) grammar {
	return func(text []rune, at int) outcome {
		sum := outcome{at: at, reason: reason{at: at}}
		for _, choice := range choices {
			next := choice(text, at)
			if !next.consumed {
				next.reason = sum.reason.merge(next.reason)
			}
			if sum = next; sum.ok || sum.consumed {
				return sum
			}
		}
		return sum
	}
}

// attempt makes a failure one at the first character.
func attempt(g grammar) grammar {
	return func(text []rune, at int) outcome {
		o := g(text, at)
		o.consumed = o.consumed && o.ok
		return o
	}
}

// called names what is expected by a grammar that read nothing.
func called(name string, g grammar) grammar {
	return func(text []rune, at int) outcome {
		o := g(text, at)
		if !o.consumed && (!o.ok || len(o.reason.notes) > 0) {
			o.reason = o.reason.wanting(name)
		}
		return o
	}
}

func nothing(_ []rune, at int) outcome { return outcome{ok: true, at: at, reason: reason{at: at}} }

func optional(g grammar) grammar { return either(g, nothing) }

// many runs a grammar, which must read something, as often as it goes.
func many(g grammar) grammar {
	return func(text []rune, at int) outcome {
		sum := outcome{ok: true, at: at}
		for {
			next := g(text, sum.at)
			switch {
			case next.ok && next.consumed:
				sum.at, sum.consumed = next.at, true
			case next.consumed:
				return next
			default:
				sum.reason = next.reason
				return sum
			}
		}
	}
}

func separated(g, by grammar) grammar { return all(g, many(all(by, g))) }

// lookingAhead reads nothing when g succeeds.
func lookingAhead(g grammar) grammar {
	return func(text []rune, at int) outcome {
		o := g(text, at)
		if o.ok {
			return nothing(text, at)
		}
		return o
	}
}

// one reads a character of a kind.
func one(is func(rune) bool) grammar {
	return func(text []rune, at int) outcome {
		switch {
		case at >= len(text):
			return outcome{at: at, reason: reason{at, []note{{found, ""}}}}
		case !is(text[at]):
			return outcome{at: at, reason: reason{at, []note{{found, strconv.Quote(string(text[at]))}}}}
		}
		return outcome{ok: true, consumed: true, at: at + 1, reason: reason{at: at + 1}}
	}
}

func character(c rune) grammar {
	return called(strconv.Quote(string(c)), one(func(r rune) bool { return r == c }))
}

func oneOf(set string) grammar {
	return one(func(r rune) bool { return strings.ContainsRune(set, r) })
}

func noneOf(set string) grammar {
	return one(func(r rune) bool { return !strings.ContainsRune(set, r) })
}

// literal reads a word; having read a part of it is a failure that consumed.
func literal(word string) grammar {
	runes := []rune(word)
	return func(text []rune, at int) outcome {
		for i, r := range runes {
			seen := ""
			if at+i < len(text) {
				if text[at+i] == r {
					continue
				}
				seen = strconv.Quote(string(text[at+i]))
			}
			return outcome{consumed: i > 0, at: at, reason: reason{at, []note{{wanted, strconv.Quote(word)}, {found, seen}}}}
		}
		return outcome{ok: true, consumed: true, at: at + len(runes), reason: reason{at: at + len(runes)}}
	}
}

// notFollowedBy reads nothing, and fails when g succeeds.
func notFollowedBy(g grammar) grammar {
	return func(text []rune, at int) outcome {
		if o := g(text, at); o.ok {
			return outcome{at: at, reason: reason{o.at, []note{{foundInstead, strconv.QuoteRune(text[at])}}}}
		}
		return nothing(text, at)
	}
}

// ended is the end of the text.
func ended(text []rune, at int) outcome {
	if at < len(text) {
		return outcome{at: at, reason: reason{at, []note{{wanted, "end of input"}, {foundInstead, strconv.QuoteRune(text[at])}}}}
	}
	return nothing(text, at)
}
