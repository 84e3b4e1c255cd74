package envelope

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// ring keeps data keys by their wrapped form, which names the key and a version.
type ring struct {
	keys    map[string][]byte
	version int
}

func newRing() *ring { return &ring{keys: map[string][]byte{}} }

func (k *ring) DataKey(_ context.Context, name string) (plain, wrapped []byte, err error) {
	plain = make([]byte, keySize)
	_, _ = rand.Read(plain)
	wrapped = fmt.Appendf(nil, "%s:%d:%d", name, k.version, len(k.keys))
	k.keys[string(wrapped)] = bytes.Clone(plain)
	return plain, wrapped, nil
}

var errNoKey = errors.New("no such key")

func (k *ring) Unwrap(_ context.Context, _ string, wrapped []byte) ([]byte, error) {
	if plain, ok := k.keys[string(wrapped)]; ok {
		return bytes.Clone(plain), nil
	}
	return nil, errNoKey
}

func (k *ring) Rewrap(_ context.Context, name string, wrapped []byte) ([]byte, error) {
	k.version++
	renewed := fmt.Appendf(nil, "%s:%d:%d", name, k.version, len(k.keys))
	k.keys[string(renewed)] = k.keys[string(wrapped)]
	return renewed, nil
}

func header(tenant string) Header {
	return Header{Fleet: "f", Tenant: tenant, Copy: "c1", Key: tenant, Content: "test/1", CreatedAt: time.Unix(1_700_000_000, 0).UTC()}
}

func seal(t require.TestingT, keys *ring, h Header, text []byte) []byte {
	var b bytes.Buffer
	w, err := Seal(context.Background(), &b, keys, h)
	require.NoError(t, err)
	_, err = w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// open reads as much as the file gives.
func open(keys *ring, file []byte) ([]byte, error) {
	s, err := Read(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	r, err := s.Open(context.Background(), keys)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func randomText(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// Whatever the length, what was sealed is read, and in whatever pieces.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	keys := newRing()
	const plain = segment - 16 // of a segment
	for _, n := range []int{0, 1, plain - 41, plain - 40, plain - 39, plain, 2*plain - 40, 3*plain + 7} {
		text := randomText(n)
		file := seal(t, keys, header("acme"), text)
		got, err := open(keys, file)
		require.NoError(t, err, n)
		require.True(t, bytes.Equal(text, got), n)
		s, err := Read(iotest.OneByteReader(bytes.NewReader(file)))
		require.NoError(t, err)
		require.Equal(t, header("acme"), s.Header)
	}
}

// Any change of any byte, any cut and any addition is refused, and what was
// handed out before is the beginning of what was sealed.
func TestTampering(t *testing.T) {
	t.Parallel()
	keys := newRing()
	text := randomText(2*segment + 1234)
	file := seal(t, keys, header("acme"), text)
	head, err := encode(header("acme"))
	require.NoError(t, err)
	unused := [2]int{len(head) + slotSize, len(head) + 2*slotSize} // the slot that holds no key
	rapid.Check(t, func(t *rapid.T) {
		var bad []byte
		switch rapid.SampledFrom([]string{"flip", "head", "cut", "add", "swap", "drop"}).Draw(t, "how") {
		case "flip":
			bad = flip(file, rapid.IntRange(0, len(file)-1).Draw(t, "at"), rapid.IntRange(0, 7).Draw(t, "bit"))
			if at := firstDifference(file, bad); at >= unused[0] && at < unused[1] {
				t.Skip()
			}
		case "head":
			bad = flip(file, rapid.IntRange(0, unused[0]-1).Draw(t, "at"), rapid.IntRange(0, 7).Draw(t, "bit"))
		case "cut":
			bad = file[:rapid.IntRange(0, len(file)-1).Draw(t, "at")]
		case "add":
			bad = append(bytes.Clone(file), rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "more")...)
		case "swap": // two whole segments
			bad = bytes.Clone(file)
			at := unused[1] + segment
			copy(bad[at:], file[at-segment+40:at-segment+40+1000])
		case "drop": // one whole segment
			at := unused[1] + segment
			bad = append(bytes.Clone(file[:at]), file[min(at+segment, len(file)):]...)
		}
		got, err := open(keys, bad)
		require.Error(t, err)
		require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotSealed) || errors.Is(err, errNoKey), err)
		require.True(t, bytes.HasPrefix(text, got))
	})
}

func flip(file []byte, at, bit int) []byte {
	bad := bytes.Clone(file)
	bad[at] ^= 1 << bit
	return bad
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// A file cut at the end of a segment is no shorter file, and the error stays.
func TestCutBetweenSegments(t *testing.T) {
	t.Parallel()
	keys := newRing()
	text := randomText(3 * segment)
	file := seal(t, keys, header("acme"), text)
	head, err := encode(header("acme"))
	require.NoError(t, err)
	s, err := Read(bytes.NewReader(file[:len(head)+2*slotSize+segment]))
	require.NoError(t, err)
	r, err := s.Open(t.Context(), keys)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, ErrCorrupt)
	for range 3 {
		n, err := r.Read(make([]byte, 10))
		require.Zero(t, n)
		require.ErrorIs(t, err, ErrCorrupt)
	}
}

// One tenant's stream under another's header opens with neither's key.
func TestForeignHeader(t *testing.T) {
	t.Parallel()
	keys := newRing()
	acme, bank := seal(t, keys, header("acme"), randomText(100)), seal(t, keys, header("bank"), randomText(100))
	head, err := encode(header("acme"))
	require.NoError(t, err)
	for _, cut := range []int{len(head), len(head) + 2*slotSize} { // with its own wrapped key, and with the other's
		_, err := open(keys, append(bytes.Clone(bank[:cut]), acme[cut:]...))
		require.ErrorIs(t, err, ErrCorrupt)
	}
}

// What can't be read now is not taken for a damaged file.
func TestReaderFails(t *testing.T) {
	t.Parallel()
	keys := newRing()
	file := seal(t, keys, header("acme"), randomText(2*segment))
	broken := errors.New("disk on fire")
	s, err := Read(io.MultiReader(bytes.NewReader(file[:segment]), iotest.ErrReader(broken)))
	require.NoError(t, err)
	r, err := s.Open(t.Context(), keys)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, ErrCorrupt)
}

// crashing lets so many writes and syncs through; the one after writes half.
type crashing struct {
	*os.File
	left int
}

var errCrash = errors.New("crash")

func (c *crashing) WriteAt(p []byte, off int64) (int, error) {
	if c.left == 0 {
		_, _ = c.File.WriteAt(p[:len(p)/2], off)
		return 0, errCrash
	}
	c.left--
	return c.File.WriteAt(p, off)
}

func (c *crashing) Sync() error {
	if c.left == 0 {
		return errCrash
	}
	c.left--
	return c.File.Sync()
}

// Rewrap leaves one wrapping, another than before; killed at any point it leaves a file that opens.
func TestRewrap(t *testing.T) {
	t.Parallel()
	keys := newRing()
	text := randomText(1000)
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, seal(t, keys, header("acme"), text), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	for left := 0; ; left++ {
		err := Rewrap(t.Context(), &crashing{f, left}, keys)
		file, readErr := os.ReadFile(path)
		require.NoError(t, readErr)
		got, openErr := open(keys, file)
		require.NoError(t, openErr, "after %d writes", left)
		require.True(t, bytes.Equal(text, got))
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errCrash)
	}
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	s, err := Read(bytes.NewReader(before))
	require.NoError(t, err)
	_, old, err := s.keys.current()
	require.NoError(t, err)
	require.NoError(t, Rewrap(t.Context(), f, keys))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.False(t, bytes.Contains(after, old))
	require.Len(t, after, len(before))
}

// FuzzRead: no input makes the reader panic, nor hands out what was not sealed.
func FuzzRead(f *testing.F) {
	keys := newRing()
	text := []byte("forty-two rows of somebody's data")
	file := seal(f, keys, header("acme"), text)
	f.Add(file)
	f.Add(file[:40])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := open(keys, in)
		if err == nil && !bytes.Equal(got, text) {
			t.Fatalf("%q came out of a file that nobody sealed", got)
		}
		if !bytes.HasPrefix(text, got) {
			t.Fatalf("%q was handed out", got)
		}
	})
}
