package proof

import (
	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is the right edge of a tree: all that is needed to add records and
// to know the root. The zero value is an empty tree.
type Frontier struct {
	size  int64
	edges []tlog.Hash // of the complete subtrees, the largest first
}

// OpenFrontier reads the edge of the tree of size records.
func OpenFrontier(size int64, stored tlog.HashReader) (*Frontier, error) {
	f := &Frontier{size: size}
	if size == 0 {
		return f, nil
	}
	var err error
	f.edges, err = stored.ReadHashes(edges(size))
	return f, err
}

// edges are where the hashes of the complete subtrees of a tree are stored, the largest first.
func edges(size int64) (indexes []int64) {
	var before int64 // records in the subtrees so far
	for level := 62; level >= 0; level-- {
		if n := int64(1) << level; size&n != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, before>>level))
			before += n
		}
	}
	return indexes
}

// Size is how many records the tree has.
func (f *Frontier) Size() int64 { return f.size }

// Append adds a record by its hash and returns the hashes that are stored with
// it: its own, and those of the subtrees that it completes. The first of them
// is the one with the index tlog.StoredHashIndex(0, size before).
func (f *Frontier) Append(record tlog.Hash) []tlog.Hash {
	stored := []tlog.Hash{record}
	f.edges = append(f.edges, record)
	for n := f.size; n&1 == 1; n >>= 1 { // as often as the last two subtrees are of one height
		last := len(f.edges) - 1
		whole := tlog.NodeHash(f.edges[last-1], f.edges[last])
		f.edges = append(f.edges[:last-1], whole)
		stored = append(stored, whole)
	}
	f.size++
	return stored
}

// Root is the hash of the whole tree. An empty tree has that of RFC 6962, of no bytes.
func (f *Frontier) Root() tlog.Hash {
	if f.size == 0 {
		h, _ := tlog.TreeHash(0, nil) // reads nothing
		return h
	}
	root := f.edges[len(f.edges)-1]
	for i := len(f.edges) - 2; i >= 0; i-- {
		root = tlog.NodeHash(f.edges[i], root)
	}
	return root
}
