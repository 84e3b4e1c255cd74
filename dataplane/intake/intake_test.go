package intake_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/dataplane/intake"
)

// Whatever a client says of its body's length and however it comes: it is
// taken in as it is, and no more memory is held for it than twice of what came.
func TestTake(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := bytes.Repeat([]byte("x"), rapid.IntRange(0, 100_000).Draw(t, "bytes"))
		var body io.Reader = bytes.NewReader(text)
		if rapid.Bool().Draw(t, "slow") {
			body = iotest.HalfReader(body)
		}
		r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(body))
		r.ContentLength = rapid.SampledFrom([]int64{-1, int64(len(text)), 1 << 40}).Draw(t, "says")
		held := 0
		if err := intake.Take(r, func(n int) error { held += n; return nil }); err != nil {
			t.Fatal(err)
		}
		if held > max(4096, 2*len(text)) {
			t.Fatalf("%d bytes are held for %d", held, len(text))
		}
		if r.ContentLength != int64(len(text)) {
			t.Fatalf("%d bytes, it says", r.ContentLength)
		}
		got, err := intake.Bytes(nil, r, int64(len(text)))
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%d bytes came out of %d: %v", len(got), len(text), err)
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	body := func() *http.Request {
		return httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 100_000)))
	}
	full := errors.New("full")
	held, r := 0, body()
	require.ErrorIs(t, intake.Take(r, func(n int) error {
		if held+n > 50_000 {
			return full
		}
		held += n
		return nil
	}), full)
	require.Positive(t, held)

	broken := httptest.NewRequest(http.MethodPost, "/", iotest.TimeoutReader(strings.NewReader("xxxx")))
	require.ErrorIs(t, intake.Take(broken, func(int) error { return nil }), iotest.ErrTimeout)

	for _, taken := range []bool{false, true} {
		r := body()
		if taken {
			require.NoError(t, intake.Take(r, func(int) error { return nil }))
		}
		_, err := intake.Bytes(nil, r, 99_999)
		var tooLarge *http.MaxBytesError
		require.ErrorAs(t, err, &tooLarge)
	}
	none := httptest.NewRequest(http.MethodPost, "/", nil)
	require.NoError(t, intake.Take(none, func(int) error { return full }))

	r = body()
	require.NoError(t, intake.Take(r, func(int) error { return nil }))
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Len(t, text, 100_000)
}
