package proof

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// span is a copy of the records that has let the first of them go.
type span struct {
	who        string
	from, size int64 // its first record and its last
	root       tlog.Hash
	since      time.Time
	tree       Frontier // over what has come of it
}

const (
	// mostSpans bounds the copies that an export may name; a fleet has one.
	mostSpans = 16
	// spanSlack is how far the clocks of a copy and of the log may be apart.
	spanSlack = 10 * time.Minute
)

// copied takes what a place says of its own copy of the records.
func (v *verifier) copied(a Anchor) {
	who := "the copy of the records at " + a.Name
	switch {
	case a.From <= 1:
		v.claim(a.Records, claim{who, *a.Root})
	case v.begun || len(v.spans) == mostSpans || a.Records < a.From:
		v.missing("%s was not compared", who)
	default:
		v.spans = append(v.spans, &span{who: who, from: a.From, size: a.Records, root: *a.Root, since: a.Since})
	}
}

// within holds an entry against the copies that are to have it.
func (v *verifier) within(e Entry) {
	for _, s := range v.spans {
		if e.Position == s.from-1 && !s.since.IsZero() && e.LoggedAt.After(s.since.Add(spanSlack)) {
			v.problem("copy", "%s begins with record %d, and is to have all since %s: its beginning is missing", s.who, s.from, s.since.Format(time.RFC3339))
		}
		if e.Position < s.from || e.Position > s.size {
			continue
		}
		s.tree.Append(tlog.RecordHash([]byte(e.Leaf)))
		if e.Position == s.size && s.tree.Root() != s.root {
			v.problem("root", "%s, of records %d to %d, is of other records than these; up to %d all agree", s.who, s.from, s.size, v.agreed)
		}
	}
}
