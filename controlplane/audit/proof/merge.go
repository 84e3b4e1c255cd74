package proof

import (
	"iter"
	"math"
)

// Merge brings sequences of lines together by the size of the log that each
// line is about, so that who reads them needs to keep little: a checkpoint comes
// before the last of the entries that it is of, the end after everything. Each
// of them has to be in that order itself. An error ends it.
func Merge(seqs ...iter.Seq2[Line, error]) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var heads []head
		defer func() {
			for _, h := range heads {
				h.stop()
			}
		}()
		for _, seq := range seqs {
			next, stop := iter.Pull2(seq)
			h := head{next: next, stop: stop}
			if h.advance() {
				heads = append(heads, h)
			} else {
				stop()
			}
		}
		for len(heads) > 0 {
			first := 0
			for i := range heads {
				if heads[i].before(heads[first]) {
					first = i
				}
			}
			h := &heads[first]
			if !yield(h.line, h.err) || h.err != nil {
				return
			}
			if !h.advance() {
				h.stop()
				heads = append(heads[:first], heads[first+1:]...)
			}
		}
	}
}

// head is a sequence and the line of it that comes next.
type head struct {
	next  func() (Line, error, bool)
	stop  func()
	line  Line
	err   error
	size  int64
	entry bool
}

func (h *head) advance() (more bool) {
	if h.line, h.err, more = h.next(); more {
		h.size, h.entry = h.line.about()
	}
	return more
}

func (h head) before(o head) bool {
	return h.size < o.size || h.size == o.size && !h.entry && o.entry
}

// about is the size of the log that a line is about: 0 for what has no turn and
// comes at once, which is also what can't be read.
func (l Line) about() (size int64, entry bool) {
	note := l.Checkpoint
	switch {
	case l.Entry != nil:
		return l.Entry.Position, true
	case l.End != nil:
		return math.MaxInt64, true
	case l.Anchor != nil && !l.Anchor.Newest:
		note = l.Anchor.Checkpoint
	}
	if c, err := Peek([]byte(note)); err == nil {
		return c.Size, false
	}
	return 0, false
}
