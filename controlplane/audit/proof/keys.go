package proof

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key is a verifier key and the sizes of the log for which it may sign.
type Key struct {
	// Verifier is the public key as a note's `name+hash+key`.
	Verifier string `json:"verifier"`
	// From and Until are the smallest and the largest size that it signs; Until 0: there is no largest.
	From  int64 `json:"from"`
	Until int64 `json:"until,omitempty"`
}

func (k Key) signs(size int64) bool { return size >= k.From && (k.Until == 0 || size <= k.Until) }

// Keys are all that ever signed a log's checkpoints, in the order of their ranges.
type Keys []Key

// ParseKeys reads one key a line, `VERIFIER [FROM [UNTIL]]`; empty lines and
// what follows a '#' are left out. Errors: [ErrMalformed].
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		k := Key{Verifier: words[0]}
		bounds := []*int64{&k.From, &k.Until}
		_, err := note.NewVerifier(k.Verifier)
		if err != nil || len(words) > 1+len(bounds) {
			return nil, fmt.Errorf("line %d is no verifier key: %w", n+1, ErrMalformed)
		}
		for i, w := range words[1:] {
			if *bounds[i], err = strconv.ParseInt(w, 10, 64); err != nil || *bounds[i] < 0 {
				return nil, fmt.Errorf("line %d: a size is no number: %w", n+1, ErrMalformed)
			}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no verifier key: %w", ErrMalformed)
	}
	return keys, nil
}

// String writes what [ParseKeys] reads.
func (ks Keys) String() string {
	var b strings.Builder
	for _, k := range ks {
		b.WriteString(k.Verifier)
		if k.From != 0 || k.Until != 0 {
			fmt.Fprintf(&b, " %d", k.From)
		}
		if k.Until != 0 {
			fmt.Fprintf(&b, " %d", k.Until)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// has tells whether ks lets a key sign all that k says it may.
func (ks Keys) has(k Key) bool {
	for _, own := range ks {
		if own.Verifier == k.Verifier {
			return k.From >= own.From && (own.Until == 0 || reach(k) <= own.Until)
		}
	}
	return false
}

func reach(k Key) int64 {
	if k.Until == 0 {
		return math.MaxInt64
	}
	return k.Until
}

// Open checks a signed checkpoint and reads it. Errors: [ErrMalformed], [ErrSignature].
func (ks Keys) Open(signed []byte) (Checkpoint, error) {
	c, err := Peek(signed)
	if err != nil {
		return c, err
	}
	var good []note.Verifier
	for _, k := range ks {
		v, err := note.NewVerifier(k.Verifier)
		if err != nil {
			return c, fmt.Errorf("verifier key %.80q: %w", k.Verifier, ErrMalformed)
		}
		if k.signs(c.Size) && v.Name() == c.Origin {
			good = append(good, v)
		}
	}
	n, err := note.Open(signed, note.VerifierList(good...))
	if err != nil || !strings.HasPrefix(n.Text, c.text()) {
		return c, fmt.Errorf("checkpoint of %d records: %w", c.Size, ErrSignature)
	}
	return c, nil
}
