package query

import (
	"strings"
	"unicode"
)

// grammars say, by what is parsed, how a text must be. They are the scanner's
// own rules in a form that tells what is wrong.
var grammars = map[string]grammar{
	"select parameter":      gItems,
	"columns parameter":     gNames,
	"on_conflict parameter": gNames,
	"order":                 separated(spaced(either(attempt(gRelatedTerm), gTerm)), character(',')),
	"filter":                gOperation(many(one(anything))),
	"logic tree":            gTree,
	"tree path":             all(separated(gName, gDot), optional(gPath)),
	"logic path":            separated(gName, gDot),
}

// maxExplained bounds the characters of a text that is explained.
const maxExplained = 8 << 10

// explain puts the error into the words of PostgREST's parser; source is what it
// would have parsed. Where the scanner alone refuses (for its bounds), the
// scanner's words stay.
func (e *SyntaxError) explain(source string) {
	if e.bounds || len(source) > maxExplained {
		return
	}
	if g, ok := grammars[e.What]; ok {
		if o := g([]rune(source), 0); !o.ok {
			e.Column, e.details = o.reason.at+1, o.reason.String()
		}
	}
}

// unreadable tells whether a selection is of nothing that could be selected,
// which for PostgREST is the same as none.
func unreadable(selection string) bool {
	o := gItems([]rune(selection[:min(len(selection), maxExplained)]), 0)
	return o.ok && !o.consumed
}

func anything(rune) bool { return true }

func spaced(g grammar) grammar { return all(gSpace, g, gSpace) }

func digit(r rune) bool { return r >= '0' && r <= '9' }

var (
	gSpace      = many(oneOf(" \t"))
	gDot        = called("delimiter (.)", character('.'))
	gQuoted     = all(character('"'), many(either(noneOf(`\"`), all(character('\\'), one(anything)))), character('"'))
	gIdentifier = repeated(either(called("letter", one(unicode.IsLetter)), called("digit", one(digit)), oneOf("_ $")))
	gName       = called(fieldName, either(gQuoted, separated(gIdentifier, gDash)))
	gDash       = attempt(all(character('-'), notFollowedBy(character('>'))))
	gKey        = called(jsonKeyName, either(gQuoted, separated(repeated(noneOf("(-:.,>)")), gDash)))
	gIndex      = all(optional(character('-')), repeated(called("digit", one(digit))), either(ahead("->"), ahead("::"), ahead("."), ahead(","), attempt(ended)))
	gPath       = many(all(either(attempt(literal("->>")), attempt(literal("->"))), either(attempt(gIndex), attempt(gKey))))
	gField      = spaced(all(gName, optional(gPath)))
	gNames      = separated(gName, spaced(character(',')))
	gAlias      = optional(attempt(all(gName, character(':'), notFollowedBy(character(':')))))
	gCast       = optional(all(literal("::"), gIdentifier))
)

func repeated(g grammar) grammar { return all(g, many(g)) }

func ahead(token string) grammar { return attempt(lookingAhead(literal(token))) }

// gItems and gTree are recursive.
func gItems(text []rune, at int) outcome { return itemsGrammar(text, at) }
func gTree(text []rune, at int) outcome  { return treeGrammar(text, at) }

var itemsGrammar, treeGrammar grammar

func init() {
	inside := all(character('('), gItems, character(')'))
	item := either(all(attempt(gSpread), inside), all(attempt(gEmbed), inside), gColumn)
	itemsGrammar = optional(separated(item, spaced(character(','))))

	operator := called("logic operator (and, or)", either(attempt(literal("and")), literal("or")))
	not := called("negation operator (not)", optional(attempt(all(literal("not"), gDot))))
	filter := all(gField, gDot, gOperation(gOperand))
	treeGrammar = either(attempt(filter), all(not, operator, spaced(character('(')), separated(gTree, spaced(character(','))), spaced(character(')'))))
}

var (
	gEmbedParam = all(character('!'), either(attempt(literal("left")), attempt(literal("inner")), attempt(gName)))
	gEmbedTail  = all(optional(gEmbedParam), optional(gEmbedParam), attempt(lookingAhead(literal("("))))
	gSpread     = spaced(all(literal("..."), gName, gEmbedTail))
	gEmbed      = spaced(all(gAlias, notCount, gEmbedTail))
	gItemEnd    = either(ahead(")"), ahead(","), attempt(ended))
	gAggregate  = either(literal("sum"), literal("avg"), literal("count"), attempt(literal("max")), attempt(literal("min")))
	gColumn     = spaced(either(
		attempt(all(literal("*"), gItemEnd)),
		attempt(all(gAlias, literal("count()"), gCast, gItemEnd)),
		all(gAlias, gField, gCast, optional(attempt(all(character('.'), gAggregate, literal("()")))), gCast, gItemEnd),
	))
)

// notCount is a name, but for that of the aggregate over rows.
func notCount(text []rune, at int) outcome {
	o := gName(text, at)
	if o.ok && strings.Trim(strings.TrimSpace(string(text[at:o.at])), `"`) == "count" {
		o.ok = false
	}
	return o
}

var (
	gListed = either(attempt(all(gQuoted, notFollowedBy(noneOf(",)")))), many(noneOf(",)")))
	gList   = all(spaced(character('(')), separated(gListed, character(',')), spaced(character(')')))
	gArray  = all(literal("{"), many(noneOf("{}")), literal("}"))
	// gOperand is a value inside a group.
	gOperand = either(attempt(all(gQuoted, notFollowedBy(noneOf(",)")))), attempt(gArray), many(noneOf(",)")))
)

// gOperation is `operator.value`.
func gOperation(value grammar) grammar {
	tried := func(words ...string) grammar {
		choices := make([]grammar, len(words))
		for i, w := range words {
			choices[i] = attempt(literal(w))
		}
		return either(choices...)
	}
	is := func(word string) grammar {
		letters := make([]grammar, len(word))
		for i, r := range word {
			letters[i] = either(character(r), character(unicode.ToUpper(r)))
		}
		return attempt(all(letters...))
	}
	const unknown = "unknown single value operator"
	return all(optional(attempt(all(literal("not"), gDot))), called("operator (eq, gt, ...)", either(
		all(attempt(all(literal("in"), gDot)), gList),
		all(attempt(all(literal("is"), gDot)), called(isOperands, either(is("null"), is("not_null"), is("true"), is("false"), is("unknown")))),
		all(attempt(all(literal("isdistinct"), gDot)), value),
		attempt(all(tried("fts", "plfts", "phfts", "wfts"), optional(attempt(all(character('('), gIdentifier, character(')')))), gDot, value)),
		attempt(all(called(unknown, tried("neq", "cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj")), gDot, value)),
		attempt(all(called(unknown, tried("eq", "gte", "gt", "lte", "lt", "like", "ilike", "match", "imatch")),
			optional(attempt(all(character('('), either(attempt(literal("any")), literal("all")), character(')')))), gDot, value)),
	)))
}

var (
	gDirection   = either(attempt(all(gDot, literal("asc"))), attempt(all(gDot, literal("desc"))))
	gNulls       = either(attempt(all(gDot, literal("nullsfirst"))), attempt(all(gDot, literal("nullslast"))))
	gTermEnd     = either(ahead(","), attempt(ended))
	gTermTail    = all(optional(gDirection), either(all(gNullsMaybe, gTermEnd), gTermEnd))
	gNullsMaybe  = optional(gNulls)
	gTerm        = all(gField, gTermTail)
	gRelatedTerm = all(gName, character('('), gField, character(')'), gTermTail)
)
