package proof

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Line is one line of an export: exactly one of its fields is set. An export
// begins with what is known from elsewhere (keys, the newest checkpoints,
// sources), has all entries in order after that, each checkpoint before the
// last of the entries that it is of, then the sources once more, and ends with
// End: without it, it was cut off.
type Line struct {
	Key        *Key        `json:"key,omitempty"`
	Checkpoint string      `json:"checkpoint,omitempty"` // signed, kept beside the log
	Anchor     *Anchor     `json:"anchor,omitempty"`
	Source     *Source     `json:"source,omitempty"`
	Entry      *Entry      `json:"entry,omitempty"`
	End        *ExportDone `json:"end,omitempty"`
}

// Anchor is what a place outside the audit database says of the log.
type Anchor struct {
	Name string `json:"name"` // "stream", "shard/s1", "directory", a file
	// Checkpoint is one that was put there.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Newest says that the checkpoint is told ahead: it comes once more in its turn.
	Newest bool `json:"newest,omitempty"`
	// Records and Root are of the place's own copy of the records, up to the one named.
	Records int64      `json:"records,omitempty"`
	Root    *tlog.Hash `json:"root,omitempty"`
	// From is the first record of a copy that lets old ones go: Root is that of a tree
	// over the records From to Records alone. Since is what the copy is to reach
	// back to: whatever was logged later is in it.
	From  int64     `json:"from,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Held says that the place was read to its end: this many checkpoints.
	Held *int `json:"held,omitempty"`
	// Unreachable is why the place could not be asked.
	Unreachable string `json:"unreachable,omitempty"`
}

// Source is what a catalog says of the records that it wrote.
type Source struct {
	Source string `json:"source"`
	// Sent is the last number that is in no outbox any more; Written the last that it gave to a record.
	Sent    int64 `json:"sent"`
	Written int64 `json:"written"`
	// Waiting is how long the oldest record has waited in the outbox, in seconds; 0: none does.
	Waiting float64 `json:"waiting_seconds"`
	// Unreachable is why it could not be asked.
	Unreachable string `json:"unreachable,omitempty"`
}

// Entry is one record: the text that the tree covers, and what the database has beside it.
type Entry struct {
	Position int64     `json:"position"`
	Source   string    `json:"source"`
	Sequence int64     `json:"sequence"`
	LoggedAt time.Time `json:"logged_at"`
	Tenant   string    `json:"tenant"`
	Actor    string    `json:"actor"`
	Action   string    `json:"action"`
	Happened time.Time `json:"happened"`
	// Leaf is the record itself; its hash is tlog.RecordHash.
	Leaf string `json:"leaf"`
	// Tree are the hashes that are stored with the record, see [Frontier.Append].
	Tree []tlog.Hash `json:"tree"`
	// ChainPrev and ChainHash link records that were written before there was a tree.
	ChainPrev []byte `json:"chain_prev,omitempty"`
	ChainHash []byte `json:"chain_hash,omitempty"`
}

// ExportDone ends an export.
type ExportDone struct {
	Records int64 `json:"records"`
}

// maxLine bounds a line of an export; a record is far smaller.
const maxLine = 4 << 20

// Read reads an export's lines. It ends with an error after a line that is
// none ([ErrMalformed]), or when r does.
func Read(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxLine)
		for n := 1; lines.Scan(); n++ {
			var l Line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				yield(l, fmt.Errorf("line %d of the export: %w", n, errors.Join(ErrMalformed, err)))
				return
			}
			if !yield(l, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Line{}, fmt.Errorf("export: %w", err))
		}
	}
}

// Write writes lines, one JSON object each, until they end or one has an error.
func Write(w io.Writer, lines iter.Seq2[Line, error]) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for l, err := range lines {
		if err != nil {
			return err
		}
		if err := out.Encode(l); err != nil {
			return err
		}
	}
	return nil
}
