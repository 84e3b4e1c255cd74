package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Verdict is what a check comes to.
type Verdict string

const (
	// Sound: everything that was to be checked was, and agrees.
	Sound Verdict = "sound"
	// Tampered: something does not agree with something else; Problems say what.
	Tampered Verdict = "tampered"
	// Incomplete: nothing disagrees, and something could not be checked; Missing says what.
	Incomplete Verdict = "incomplete"
)

// Problem is one thing that does not agree.
type Problem struct {
	// Kind: signature, size, root, entry, columns, tree, gap, order, sequence, chain, source, key, copy.
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Report is what [Verify] found.
type Report struct {
	Verdict Verdict   `json:"verdict"`
	Origin  string    `json:"origin,omitempty"`
	Records int64     `json:"records"`
	Root    tlog.Hash `json:"root"`
	// Checkpoints and Anchored count what the tree was compared with: the log's own, and those of places outside.
	Checkpoints int            `json:"checkpoints"`
	Anchored    map[string]int `json:"anchors"`
	// Signed is the size of the largest good checkpoint: later records stand unsigned yet.
	Signed   int64     `json:"signed"`
	Problems []Problem `json:"problems"`
	Missing  []string  `json:"missing"`
}

const (
	mostProblems = 100
	// waitsTooLong is how long a record may be on its way into the log before somebody should look.
	waitsTooLong = 5 * time.Minute
	// unsignedTooLong is how long the log may have grown unsigned before somebody should look.
	unsignedTooLong = time.Hour
)

// claim is what somebody says of the tree of a size.
type claim struct {
	who  string // "the log's checkpoint", "the checkpoint at shard/s1"
	root tlog.Hash
}

type verifier struct {
	Report
	keys   Keys
	claims map[int64][]claim
	tree   Frontier
	last   map[string]int64 // sequence, by source
	open   time.Time        // when the first record came that no checkpoint covers; zero: none did
	chain  []byte           // hash of the record before, while records have one
	before map[string]Source
	after  map[string]Source
	begun  bool // with entries
	ended  bool
	newest time.Time       // when the last record came
	torn   bool            // the stored tree differs: what is built on it does, too
	agreed int64           // the largest size of which all who spoke said the same
	differ map[string]bool // who disagreed already, and so does with larger sizes
	spans  []*span
	listed map[string]int // checkpoints that a place listed in their turn, by its name
}

// Verify checks an export against keys: that every checkpoint, the log's own
// and those of all anchors, is signed and is of this very tree; that entries
// have no gap, agree with what lies beside them and follow each other in their
// sources; and that sources and log agree on how many there are. It reads
// lines once, and keeps those checkpoints whose last record has not come yet:
// a few, if lines are in the order of [Merge].
func Verify(lines iter.Seq2[Line, error], keys Keys) Report {
	v := &verifier{keys: keys, claims: map[int64][]claim{}, last: map[string]int64{}, before: map[string]Source{}, after: map[string]Source{}, differ: map[string]bool{}, listed: map[string]int{}}
	v.Anchored = map[string]int{}
	for l, err := range lines {
		if err != nil {
			v.missing("the export could not be read to its end: %v", err)
			break
		}
		v.line(l)
	}
	return v.finish()
}

func (v *verifier) line(l Line) {
	switch {
	case l.Key != nil:
		if !v.keys.has(*l.Key) {
			v.problem("key", "the log names the key %.80s for sizes %d to %d, which is none of yours", l.Key.Verifier, l.Key.From, l.Key.Until)
		}
	case l.Checkpoint != "":
		v.Checkpoints++
		v.signed("the log's checkpoint", []byte(l.Checkpoint))
	case l.Anchor != nil:
		v.anchor(*l.Anchor)
	case l.Source != nil && l.Source.Unreachable != "":
		v.missing("source %s could not be asked: %s", l.Source.Source, l.Source.Unreachable)
	case l.Source != nil && v.begun:
		v.after[l.Source.Source] = *l.Source
	case l.Source != nil:
		v.before[l.Source.Source] = *l.Source
	case l.Entry != nil:
		v.begun = true
		v.entry(*l.Entry)
	case l.End != nil:
		v.ended = true
		if l.End.Records != v.Records {
			v.missing("the export says that it has %d records, and has %d", l.End.Records, v.Records)
		}
	}
}

func (v *verifier) anchor(a Anchor) {
	if _, known := v.Anchored[a.Name]; !known {
		v.Anchored[a.Name] = 0
	}
	switch {
	case a.Unreachable != "":
		v.missing("anchor %s could not be asked: %s", a.Name, a.Unreachable)
	case a.Checkpoint != "":
		if !a.Newest {
			v.Anchored[a.Name]++
			v.listed[a.Name]++
		}
		v.signed("the checkpoint at "+a.Name, []byte(a.Checkpoint))
	case a.Root != nil:
		v.Anchored[a.Name]++
		if !a.Newest { // as exports of before had it
			v.listed[a.Name]++
		}
		v.copied(a)
	case a.Held != nil && *a.Held != v.listed[a.Name]:
		v.missing("anchor %s holds %d checkpoints, and the export has %d", a.Name, *a.Held, v.listed[a.Name])
	case a.Held != nil && v.Anchored[a.Name] == 0 && v.Signed > 0:
		v.missing("anchor %s holds nothing: it is new, or was emptied", a.Name)
	}
}

func (v *verifier) signed(who string, text []byte) {
	c, err := v.keys.Open(text)
	if err != nil {
		v.problem("signature", "%s: %v", who, err)
		return
	}
	if v.Origin == "" {
		v.Origin = c.Origin
	}
	if c.Origin != v.Origin {
		v.problem("signature", "%s is of %.80q, others are of %.80q", who, c.Origin, v.Origin)
		return
	}
	v.Signed = max(v.Signed, c.Size)
	v.claim(c.Size, claim{who, c.Root})
}

func (v *verifier) claim(size int64, c claim) {
	if v.begun && size < v.tree.Size() {
		v.missing("%s, of %d records, came after record %d and was not compared", c.who, size, v.Records)
		return
	}
	if !slices.Contains(v.claims[size], c) {
		v.claims[size] = append(v.claims[size], c)
	}
	if v.begun && size == v.tree.Size() {
		v.compare()
	}
}

// leaf is what an entry's text says.
type leaf struct {
	Position int64     `json:"position"`
	Source   string    `json:"source"`
	Sequence int64     `json:"sequence"`
	LoggedAt time.Time `json:"logged_at"`
	Record   struct {
		Actor  struct{ Name string }
		Action string
		Tenant string
		Time   time.Time
	} `json:"record"`
}

func (v *verifier) entry(e Entry) {
	switch {
	case e.Position > v.Records+1:
		v.problem("gap", "records %d to %d are missing", v.Records+1, e.Position-1)
	case e.Position <= v.Records:
		v.problem("order", "record %d comes after record %d", e.Position, v.Records)
	}
	var text leaf
	err := json.Unmarshal([]byte(e.Leaf), &text)
	switch {
	case err != nil:
		v.problem("entry", "record %d cannot be read", e.Position)
	case text.Position != e.Position:
		v.problem("order", "record %d says that it is record %d", e.Position, text.Position)
	case !e.says(text):
		v.problem("columns", "record %d: its columns say other than its entry", e.Position)
	}
	v.sequence(e)
	v.chained(e)
	stored := v.tree.Append(tlog.RecordHash([]byte(e.Leaf)))
	switch {
	case len(e.Tree) == 0 || e.Tree[0] != stored[0]:
		v.problem("entry", "record %d was changed: its hash in the tree is another", e.Position)
	case !v.torn && !slices.Equal(stored, e.Tree):
		v.torn = true
		v.problem("tree", "the tree stored beside the records differs from record %d on", e.Position)
	}
	v.Records = max(e.Position, v.Records)
	v.within(e)
	v.covered(e)
	v.compare()
}

// covered minds how long nobody has signed: a key that somebody slipped in, say, has all replicas stop.
func (v *verifier) covered(e Entry) {
	switch {
	case e.Position <= v.Signed:
		v.open = time.Time{}
	case v.open.IsZero():
		v.open = e.LoggedAt
	}
	v.newest = e.LoggedAt
}

// says tells whether the columns beside an entry agree with it; the database keeps microseconds.
func (e Entry) says(l leaf) bool {
	return e.Source == l.Source && e.Sequence == l.Sequence && e.Tenant == l.Record.Tenant && e.Actor == l.Record.Actor.Name &&
		e.Action == l.Record.Action && e.LoggedAt.Equal(l.LoggedAt) && e.Happened.Equal(l.Record.Time.Truncate(time.Microsecond))
}

func (v *verifier) sequence(e Entry) {
	switch last := v.last[e.Source]; {
	case e.Sequence > last+1:
		v.problem("sequence", "records %d to %d of source %s are missing before record %d", last+1, e.Sequence-1, e.Source, e.Position)
	case e.Sequence <= last:
		v.problem("sequence", "record %d is number %d of source %s again", e.Position, e.Sequence, e.Source)
	}
	v.last[e.Source] = e.Sequence
}

// chained checks records of before the tree, which were linked one to the next.
func (v *verifier) chained(e Entry) {
	if e.ChainHash == nil {
		v.chain = nil
		return
	}
	if e.Position == 1 {
		v.chain = make([]byte, sha256.Size)
	}
	sum := sha256.Sum256(append(bytes.Clone(e.ChainPrev), e.Leaf...))
	if !bytes.Equal(e.ChainPrev, v.chain) || !bytes.Equal(sum[:], e.ChainHash) {
		v.problem("chain", "record %d: its link to the one before is broken", e.Position)
	}
	v.chain = e.ChainHash
}

// compare holds the tree as it is now against whoever spoke of one of this size.
func (v *verifier) compare() {
	size := v.tree.Size()
	claims := v.claims[size]
	if len(claims) == 0 {
		return
	}
	delete(v.claims, size)
	root, all := v.tree.Root(), true
	for _, c := range claims {
		if c.root == root {
			continue
		}
		all = false
		if !v.differ[c.who] {
			v.differ[c.who] = true
			v.problem("root", "%s, of %d records, is of other records than these; up to %d all agree", c.who, size, v.agreed)
		}
	}
	if all && len(v.differ) == 0 {
		v.agreed = size
	}
}

func (v *verifier) finish() Report {
	v.Root = v.tree.Root()
	v.compare() // an empty log
	sizes := make([]int64, 0, len(v.claims))
	for size := range v.claims {
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	for _, size := range sizes {
		for _, c := range v.claims[size] {
			if v.ended {
				v.problem("size", "the log has %d records, and %s has %d: the end is missing", v.Records, c.who, size)
			}
		}
	}
	for _, s := range v.spans {
		if v.ended && s.size > v.Records {
			v.problem("size", "the log has %d records, and %s has %d: the end is missing", v.Records, s.who, s.size)
		}
	}
	if !v.ended {
		v.missing("the export was cut off after record %d", v.Records)
	} else {
		v.sources()
	}
	switch {
	case v.Records > 0 && v.Signed == 0:
		v.missing("no checkpoint is signed yet")
	case v.Signed < v.Records && v.newest.Sub(v.open) > unsignedTooLong:
		v.missing("nothing was signed after record %d, though records came for more than %v", v.Signed, unsignedTooLong)
	}
	if len(v.Anchored) == 0 {
		v.missing("no anchor was compared: whoever holds the signing key could have made all of it anew")
	}
	switch {
	case len(v.Problems) > 0:
		v.Verdict = Tampered
	case len(v.Missing) > 0:
		v.Verdict = Incomplete
	default:
		v.Verdict = Sound
	}
	return v.Report
}

// sources compares what the catalogs gave away with what came in.
func (v *verifier) sources() {
	if len(v.before) == 0 {
		v.missing("no source was asked how many records it has written")
		return
	}
	for name, s := range v.before {
		if v.last[name] < s.Sent {
			v.problem("source", "source %s has sent %d records, and the log ends at its number %d", name, s.Sent, v.last[name])
		}
		if s.Waiting > waitsTooLong.Seconds() {
			v.missing("records of source %s have waited for %.0f s to be in the log", name, s.Waiting)
		}
	}
	for name, last := range v.last {
		s, known := v.after[name]
		switch {
		case !known && v.before[name].Source == "":
			v.missing("source %s of %d records was not asked", name, last)
		case known && last > s.Written:
			v.problem("source", "source %s has written %d records, and the log has its number %d", name, s.Written, last)
		}
	}
}

func (v *verifier) problem(kind, format string, args ...any) {
	if len(v.Problems) < mostProblems {
		v.Problems = append(v.Problems, Problem{kind, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) missing(format string, args ...any) {
	if len(v.Missing) < mostProblems {
		v.Missing = append(v.Missing, fmt.Sprintf(format, args...))
	}
}

// ErrProof: a record is not in the tree as the proof says.
var ErrProof = errors.New("the proof does not hold")

// Included checks that the record at position is in the checkpoint's tree. Errors: [ErrProof].
func Included(c Checkpoint, position int64, record string, path []tlog.Hash) error {
	if err := tlog.CheckRecord(path, c.Size, c.Root, position-1, tlog.RecordHash([]byte(record))); err != nil {
		return fmt.Errorf("record %d: %w", position, ErrProof)
	}
	return nil
}

// Extends checks that the newer checkpoint's tree has all that the older one's has. Errors: [ErrProof].
func Extends(older, newer Checkpoint, path []tlog.Hash) error {
	same := older.Size == newer.Size && older.Root == newer.Root
	if older.Origin != newer.Origin || !same && (older.Size >= newer.Size || older.Size > 0 && tlog.CheckTree(path, newer.Size, newer.Root, older.Size, older.Root) != nil) {
		return fmt.Errorf("checkpoints of %d and %d records: %w", older.Size, newer.Size, ErrProof)
	}
	return nil
}
