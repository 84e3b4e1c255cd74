package envelope

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// A slot holds generation (4 bytes), length (2), the wrapped key, zeros, and
// the SHA-256 of all that, by which one that was half written is told. There
// are two, so that a crash at any moment leaves one that holds.
const (
	slotSize   = 512
	slotHead   = 4 + 2
	maxWrapped = slotSize - slotHead - sha256.Size
)

type slots [2 * slotSize]byte

func (k *slots) at(i int) []byte { return k[i*slotSize : (i+1)*slotSize] }

func slot(generation uint32, wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("a wrapped key of %d bytes: want 1 to %d", len(wrapped), maxWrapped)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, slotSize), generation)
	b = binary.BigEndian.AppendUint16(b, uint16(len(wrapped))) //nolint:gosec // bounded above
	b = append(b, wrapped...)
	b = b[:slotSize-sha256.Size]
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// parse returns what a slot holds; nil: nothing, or what a crash left.
func parse(b []byte) (generation uint32, wrapped []byte) {
	body := b[:slotSize-sha256.Size]
	sum := sha256.Sum256(body)
	n := int(binary.BigEndian.Uint16(body[4:]))
	if n == 0 || n > maxWrapped || !bytes.Equal(sum[:], b[slotSize-sha256.Size:]) {
		return 0, nil
	}
	return binary.BigEndian.Uint32(body), body[slotHead : slotHead+n]
}

// current is the newer of the keys that are there, and which slot it is in. Errors: [ErrCorrupt].
func (k *slots) current() (i int, wrapped []byte, err error) {
	var newest uint32
	for n := range 2 {
		if generation, w := parse(k.at(n)); w != nil && (wrapped == nil || generation > newest) {
			i, newest, wrapped = n, generation, w
		}
	}
	if wrapped == nil {
		return 0, nil, fmt.Errorf("%w: no wrapped key is whole", ErrCorrupt)
	}
	return i, wrapped, nil
}

// File is a sealed file that can be written at its place (*os.File).
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Rewrapper wraps a data key anew, under the newest version of the named key.
type Rewrapper interface {
	Rewrap(ctx context.Context, name string, wrapped []byte) ([]byte, error)
}

// Rewrap wraps the file's data key anew and takes the old wrapping out of the
// file. It may be killed at any moment: the file opens, and Rewrap may be
// called again. The stream is not touched. Errors: [ErrNotSealed], [ErrCorrupt], those of keys and f.
func Rewrap(ctx context.Context, f File, keys Rewrapper) error {
	s, err := Read(io.NewSectionReader(f, 0, int64(fixed+maxHeader+len(slots{}))))
	if err != nil {
		return err
	}
	i, wrapped, err := s.keys.current()
	if err != nil {
		return err
	}
	renewed, err := keys.Rewrap(ctx, s.Header.Key, wrapped)
	if err != nil {
		return fmt.Errorf("rewrap: %w", err)
	}
	generation, _ := parse(s.keys.at(i))
	b, err := slot(generation+1, renewed)
	if err != nil {
		return fmt.Errorf("rewrap: %w", err)
	}
	// The new one is durable before the old one goes.
	for _, w := range []struct {
		slot int
		data []byte
	}{{1 - i, b}, {i, make([]byte, slotSize)}} {
		if _, err := f.WriteAt(w.data, int64(len(s.head)+w.slot*slotSize)); err != nil {
			return fmt.Errorf("rewrap: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("rewrap: %w", err)
		}
	}
	return nil
}
