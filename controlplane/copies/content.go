package copies

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// What a sealed file holds is a tar archive, squeezed by zstd, so that it can be
// looked into with common tools once it is unsealed:
//
//	manifest.json          what it is, and what a database to take it needs
//	schema.dump            pg_dump's archive of the schema
//	rows/00000/00000000 …  the tables' rows in the manifest's order, as COPY writes text, in pieces
//	end.json               the tables' checksums; without it the copy is not whole
const (
	content      = "freehold-copy/1" // the format, in the sealed file's header
	manifestName = "manifest.json"
	schemaName   = "schema.dump"
	endName      = "end.json"

	pieceSize = 1 << 20
	maxJSON   = 64 << 20 // of manifest and end: some hundred bytes a table
)

// Manifest says what a copy is.
type Manifest struct {
	Tenant        shardmap.TenantID  `json:"tenant"`
	Database      string             `json:"database"`
	SchemaVersion int64              `json:"schema_version"`
	LSN           string             `json:"lsn"`
	TakenAt       time.Time          `json:"taken_at"`
	Server        survey.Server      `json:"server"`
	Extensions    []survey.Extension `json:"extensions"`
	// Portrait is what the database and its roles are set to.
	Portrait shard.Portrait `json:"portrait"`
	Tables   []survey.Table `json:"tables"`
	// Sequences are read after the snapshot was taken, so they stand at least where its rows have used them.
	Sequences []Sequence     `json:"sequences"`
	Views     []survey.Named `json:"views"` // materialized ones, to be filled
}

// Sequence is where one stands.
type Sequence struct {
	Name   string `json:"name"` // quoted, with its schema
	Last   int64  `json:"last"`
	Called bool   `json:"called"`
}

// end is what is known when all was read.
type end struct {
	RowBytes int64 `json:"row_bytes"` // of all rows, as text
	Sums     []sum `json:"sums"`      // in the order of the manifest's tables
}

type sum struct {
	Rows int64  `json:"rows"`
	Hash string `json:"hash"`
}

// errContent: the seal held, but what is in it is no copy.
var errContent = errors.New("the sealed file holds no copy of a database")

// writer writes a copy's parts in their order.
type writer struct {
	zip   *zstd.Encoder
	tar   *tar.Writer
	rows  int64
	table int
	n     int
	buf   []byte
}

func newWriter(w io.Writer) (*writer, error) {
	zip, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &writer{zip: zip, tar: tar.NewWriter(zip), buf: make([]byte, 0, pieceSize)}, nil
}

func (w *writer) json(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.part(name, text)
}

func (w *writer) part(name string, data []byte) error {
	if err := w.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := w.tar.Write(data)
	return err
}

func (w *writer) header(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size})
}

// schema writes a file of known size.
func (w *writer) schema(r io.Reader, size int64) error {
	if err := w.header(schemaName, size); err != nil {
		return err
	}
	_, err := io.Copy(w.tar, r)
	return err
}

// pieceName is the name of a piece of a table's rows.
func pieceName(table, n int) string { return fmt.Sprintf("rows/%05d/%08d", table, n) }

// Write takes rows of the table under way, in pieces.
func (w *writer) Write(p []byte) (int, error) {
	for n := 0; ; {
		k := copy(w.buf[len(w.buf):pieceSize], p[n:])
		w.buf, n = w.buf[:len(w.buf)+k], n+k
		if len(w.buf) < pieceSize {
			return n, nil
		}
		if err := w.flush(); err != nil {
			return n, err
		}
	}
}

func (w *writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.part(pieceName(w.table, w.n), w.buf); err != nil {
		return err
	}
	w.rows, w.n, w.buf = w.rows+int64(len(w.buf)), w.n+1, w.buf[:0]
	return nil
}

// nextTable ends the rows of the table under way.
func (w *writer) nextTable() error {
	err := w.flush()
	w.table, w.n = w.table+1, 0
	return err
}

// close writes the end.
func (w *writer) close(sums []sum) error {
	if err := w.json(endName, end{RowBytes: w.rows, Sums: sums}); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return err
	}
	return w.zip.Close()
}

// reader reads a copy's parts in their order, and takes no other order.
type reader struct {
	sealed   io.Reader
	zip      *zstd.Decoder
	tar      *tar.Reader
	manifest Manifest
	rows     int64
	table    int
	n        int
	ahead    *tar.Header // read, and not used yet
	left     int64       // of the piece under way
}

// newReader reads the manifest. The caller closes it.
func newReader(r io.Reader) (*reader, error) {
	zip, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	c := &reader{sealed: r, zip: zip, tar: tar.NewReader(zip)}
	if err = c.part(manifestName); err == nil {
		err = c.json(&c.manifest)
	}
	if err != nil {
		zip.Close()
		return nil, err
	}
	return c, nil
}

func (c *reader) close() { c.zip.Close() }

// peek reads the header of what comes next.
func (c *reader) peek() (*tar.Header, error) {
	if c.ahead != nil {
		return c.ahead, nil
	}
	h, err := c.tar.Next()
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends early", errContent)
	}
	c.ahead = h
	return h, named(err)
}

// named says of an error that is not the seal's that the content is none.
func named(err error) error {
	for _, known := range []error{tar.ErrHeader, tar.ErrFieldTooLong, zstd.ErrMagicMismatch, zstd.ErrCRCMismatch, zstd.ErrDecoderSizeExceeded, zstd.ErrWindowSizeExceeded} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %w", errContent, err)
		}
	}
	return err
}

// part begins the part that must come next.
func (c *reader) part(name string) error {
	h, err := c.peek()
	if err != nil {
		return err
	}
	if h.Name != name {
		return fmt.Errorf("%w: %.60q where %s should be", errContent, h.Name, name)
	}
	c.ahead = nil
	return nil
}

func (c *reader) json(v any) error {
	if err := json.NewDecoder(io.LimitReader(c.tar, maxJSON)).Decode(v); err != nil {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		if errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", errContent, err)
		}
		return err
	}
	return nil
}

// schema returns the archive of the schema; all of it is to be read before what follows.
func (c *reader) schema() (io.Reader, error) { return c.tar, c.part(schemaName) }

// Read reads the rows of the table under way; io.EOF: they end here.
func (c *reader) Read(p []byte) (int, error) {
	for c.left == 0 {
		h, err := c.peek()
		if err != nil {
			return 0, err
		}
		if h.Name != pieceName(c.table, c.n) {
			return 0, io.EOF
		}
		c.ahead, c.left, c.n = nil, h.Size, c.n+1
	}
	n, err := c.tar.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.rows += int64(n)
	switch {
	case errors.Is(err, io.EOF) && n > 0:
		err = nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextTable reads what is left of the table under way, and begins the next.
func (c *reader) nextTable() error {
	_, err := io.Copy(io.Discard, c)
	c.table, c.n = c.table+1, 0
	return err
}

// end reads what is left: it fails unless the copy is whole and nothing follows it.
func (c *reader) end() (e end, err error) {
	for c.table < len(c.manifest.Tables) {
		if err := c.nextTable(); err != nil {
			return e, err
		}
	}
	if err := c.part(endName); err != nil {
		return e, err
	}
	if err := c.json(&e); err != nil {
		return e, err
	}
	if e.RowBytes != c.rows || len(e.Sums) != len(c.manifest.Tables) {
		return e, fmt.Errorf("%w: its end tells of %d bytes and %d tables, not %d and %d", errContent, e.RowBytes, len(e.Sums), c.rows, len(c.manifest.Tables))
	}
	if _, err := c.tar.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%w: something follows its end", errContent)
		}
		return e, named(err)
	}
	// The padding, then what proves that the file is whole.
	for _, r := range []io.Reader{c.zip, c.sealed} {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return e, named(err)
		}
	}
	return e, nil
}
