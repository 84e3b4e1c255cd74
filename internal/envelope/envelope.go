// Package envelope seals what leaves a tenant's database: a stream of any
// length, encrypted under a data key of its own, which is kept in the file's
// header wrapped by the tenant's key. Whoever holds the file reads nothing
// without that key; when it is destroyed, the file is noise.
//
// A sealed file is
//
//	magic, version, length   8 + 1 + 4 bytes
//	header                   JSON: whose, which copy, under which key
//	two slots                512 bytes each, one of them with the wrapped data key
//	the stream               AES-256-GCM-HKDF in segments of 256 KiB, by tink
//
// The stream is the STREAM construction of Hoang, Reyhanitabar, Rogaway and
// Vizár: every segment is authenticated with its number and whether it is the
// last, and the header is bound to all of them. What a [Reader] hands out was
// written so, at this place, under this header; a file that was cut, extended,
// reordered, altered, or put under another's header ends in [ErrCorrupt]. Only
// io.EOF says that all of it was read: act on nothing before.
//
// The slots are not bound to the stream, so that the data key can be wrapped
// anew ([Rewrap]) without writing the rest. A foreign data key opens nothing.
//
// Import law: of this module, envelope imports nothing.
package envelope

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// Errors a caller decides on.
var (
	// ErrNotSealed: it does not begin as a sealed file does, or is of a version that is not known here.
	ErrNotSealed = errors.New("not a sealed file")
	// ErrCorrupt: the file was cut, extended or altered, or its key is another's.
	ErrCorrupt = errors.New("the sealed file is damaged or was tampered with")
)

// Header says whose a sealed file is. It is in the clear, and can't be changed.
type Header struct {
	Fleet     string    `json:"fleet"` // the catalog's identity
	Tenant    string    `json:"tenant"`
	Copy      string    `json:"copy"`
	Key       string    `json:"key"`     // the name of the key that the data key is wrapped by
	Content   string    `json:"content"` // what the stream holds
	CreatedAt time.Time `json:"created_at"`
}

const (
	magic     = "FHSEALED"
	version   = 1
	fixed     = len(magic) + 1 + 4
	maxHeader = 4 << 10
	keySize   = 32
	segment   = 256 << 10 // of ciphertext
)

// Sealer makes data keys.
type Sealer interface {
	// DataKey makes a new data key of 32 bytes, and the same wrapped by the named key.
	DataKey(ctx context.Context, name string) (plain, wrapped []byte, err error)
}

// Opener unwraps data keys.
type Opener interface {
	Unwrap(ctx context.Context, name string, wrapped []byte) ([]byte, error)
}

// Seal writes the header to w and returns where to write the plaintext. The
// file is whole once Close has returned nil. Errors: those of keys and w.
func Seal(ctx context.Context, w io.Writer, keys Sealer, h Header) (io.WriteCloser, error) {
	head, err := encode(h)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	plain, wrapped, err := keys.DataKey(ctx, h.Key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer clear(plain)
	first, err := slot(1, wrapped)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	stream, err := primitive(plain)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(append(append(head[:len(head):len(head)], first...), make([]byte, slotSize)...)); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return stream.NewEncryptingWriter(w, head)
}

func primitive(key []byte) (*subtle.AESGCMHKDF, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("a data key of %d bytes: want %d", len(key), keySize)
	}
	return subtle.NewAESGCMHKDF(key, "SHA256", keySize, segment, 0)
}

// encode makes the bytes that a file begins with, which its stream is bound to.
func encode(h Header) ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes is too long", len(text))
	}
	b := append([]byte(magic), version)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...), nil //nolint:gosec // bounded above
}

// Sealed is a file whose header was read, and is not believed yet: nothing in
// it is proven before [Sealed.Open]'s reader has handed out a byte or ended.
type Sealed struct {
	Header Header
	head   []byte // as encoded
	keys   slots
	rest   io.Reader
}

// Read reads the header and no more. Errors: [ErrNotSealed], [ErrCorrupt], those of r.
func Read(r io.Reader) (*Sealed, error) {
	begin := make([]byte, fixed)
	if _, err := io.ReadFull(r, begin); err != nil {
		return nil, short(err, ErrNotSealed)
	}
	if string(begin[:len(magic)]) != magic {
		return nil, ErrNotSealed
	}
	if v := begin[len(magic)]; v != version {
		return nil, fmt.Errorf("%w of a version known here: it is of version %d", ErrNotSealed, v)
	}
	n := binary.BigEndian.Uint32(begin[len(magic)+1:])
	if n > maxHeader {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrCorrupt, n)
	}
	s := &Sealed{head: make([]byte, fixed+int(n)), rest: r}
	copy(s.head, begin)
	if _, err := io.ReadFull(r, s.head[fixed:]); err != nil {
		return nil, short(err, ErrCorrupt)
	}
	d := json.NewDecoder(strings.NewReader(string(s.head[fixed:])))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.Header); err != nil {
		return nil, fmt.Errorf("%w: its header can't be read", ErrCorrupt)
	}
	if again, err := encode(s.Header); err != nil || string(again) != string(s.head) {
		return nil, fmt.Errorf("%w: its header is not as it is written", ErrCorrupt) // one header, one form
	}
	if _, err := io.ReadFull(r, s.keys[:]); err != nil {
		return nil, short(err, ErrCorrupt)
	}
	return s, nil
}

// short names a file that ends too early; other errors of reading are the reader's.
func short(err, means error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within its header", means)
	}
	return err
}

// Open unwraps the data key and returns the plaintext. Errors: [ErrCorrupt], those of keys.
func (s *Sealed) Open(ctx context.Context, keys Opener) (*Reader, error) {
	_, wrapped, err := s.keys.current()
	if err != nil {
		return nil, err
	}
	plain, err := keys.Unwrap(ctx, s.Header.Key, wrapped)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	defer clear(plain)
	stream, err := primitive(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	below := &source{r: s.rest}
	r, err := stream.NewDecryptingReader(below, s.head)
	if err != nil {
		return nil, below.explain(err)
	}
	return &Reader{stream: r, below: below}, nil
}

// Reader hands out what was sealed, in order, and nothing that is not proven.
type Reader struct {
	stream io.Reader
	below  *source
	err    error // of the first read that failed, for ever
}

// Read implements io.Reader. Errors: [ErrCorrupt], those of the file's reader.
func (r *Reader) Read(p []byte) (int, error) {
	for r.err == nil && len(p) > 0 {
		n, err := r.stream.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			r.err = r.below.explain(err)
			return 0, r.err
		}
		r.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// source remembers what the file's reader said, to tell a damaged file from one that can't be read now.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		s.err = err
	}
	return n, err
}

func (s *source) explain(err error) error {
	if s.err != nil {
		return s.err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}
