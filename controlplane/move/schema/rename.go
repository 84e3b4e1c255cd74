package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
)

// ErrLength: two names of different lengths.
var ErrLength = errors.New("names in an archive are replaced by ones of the same length only")

// Rename has the archive say new wherever it says old: in owners, grants,
// policies, default privileges, and in the texts of functions and comments. It
// is for names of databases and of roles that begin with one, which are opaque
// and of one length; nothing else is meant by them. Texts in an archive are
// stored with their length and, as [Tools.Dump] makes it, not compressed, so
// that it stays as it is otherwise.
func (a *Archive) Rename(ctx context.Context, old, new string) error {
	if len(old) != len(new) || old == "" {
		return fmt.Errorf("rename %q to %q: %w", old, new, ErrLength)
	}
	b, err := os.ReadFile(a.file())
	if err != nil {
		return fmt.Errorf("rename in a schema: %w", err)
	}
	if err := os.WriteFile(a.file(), bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o600); err != nil {
		return fmt.Errorf("rename in a schema: %w", err)
	}
	if err := a.contents(ctx); err != nil {
		return fmt.Errorf("rename in a schema: %w", err)
	}
	return nil
}

// OIDs of system catalogs, the same on every server.
const (
	classRelation   = 1259 // pg_class
	classConstraint = 2606 // pg_constraint
)

// ByTable parts Post: the keys and indexes of each table in tables (by OID), and
// all else. index and constraint say to which table each belongs, by OIDs.
func (a *Archive) ByTable(index, constraint map[uint32]uint32, tables map[uint32]bool) (byTable map[uint32][]Entry, rest []Entry) {
	byTable = map[uint32][]Entry{}
	for _, e := range a.Post {
		var table uint32
		switch e.Class {
		case classRelation:
			table = index[e.OID]
		case classConstraint:
			table = constraint[e.OID]
		}
		if tables[table] {
			byTable[table] = append(byTable[table], e)
		} else {
			rest = append(rest, e)
		}
	}
	return byTable, rest
}
