package schema

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestKeptWithinBytes holds kept to a list of what was used last.
func TestKeptWithinBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(1, 100).Draw(t, "most")
		k := newKept(most)
		sizes := rapid.SliceOfN(rapid.Int64Range(1, 60), 8, 8).Draw(t, "sizes")
		var used []byte // last used last
		for _, of := range rapid.SliceOf(rapid.ByteRange(0, 7)).Draw(t, "steps") {
			f := Fingerprint{of}
			at := slices.Index(used, of)
			if s := k.get(f); (s != nil) != (at >= 0) {
				t.Fatalf("%d: kept %t, of %v", of, s != nil, used)
			}
			if at >= 0 {
				used = slices.Delete(used, at, at+1)
			} else {
				k.add(&Schema{Fingerprint: f, size: sizes[of]})
			}
			used = append(used, of)
			sum := func() (n int64) {
				for _, of := range used {
					n += sizes[of]
				}
				return n
			}
			for sum() > most && len(used) > 1 {
				used = used[1:]
			}
			var got Stats
			if k.stats(&got); got.Bytes != sum() || got.Schemas != len(used) || got.Bytes > most && got.Schemas > 1 {
				t.Fatalf("%+v, of %v", got, used)
			}
		}
	})
}

func TestSizeOf(t *testing.T) {
	type node struct {
		text string
		next *node
		of   map[int]*node
	}
	bare := sizeOf(&node{})
	require.Greater(t, sizeOf(&node{text: string(make([]byte, 1000))}), bare+999)
	shared := &node{text: string(make([]byte, 1000))}
	once := sizeOf(&node{next: shared})
	require.Less(t, sizeOf(&node{next: &node{next: shared, of: map[int]*node{1: shared}}}), once+1000, "once")
	circle := &node{}
	circle.next = circle
	require.Equal(t, bare, sizeOf(circle))

	small, err := Parse([]byte(`{"Relations": [{"Schema": "public", "Name": "a", "Kind": "r"}]}`))
	require.NoError(t, err)
	large, err := Parse([]byte(`{"Relations": [{"Schema": "public", "Name": "a", "Kind": "r", "Columns": [{"Name": "x"}, {"Name": "y"}, {"Name": "z"}]}]}`))
	require.NoError(t, err)
	require.Positive(t, small.size)
	require.Greater(t, large.size, small.size+300)
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns[string]
		first, err := all.take(t.Context(), "a")
		require.NoError(t, err)
		other, err := all.take(t.Context(), "b")
		require.NoError(t, err, "another's turn is no matter")
		other()

		began := time.Now()
		second, err := all.take(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, patience, time.Since(began), "beside the first, who does not end")
		second()
		ended, end := context.WithCancel(t.Context())
		end()
		_, err = all.take(ended, "a")
		require.ErrorIs(t, err, context.Canceled)

		time.AfterFunc(time.Second, first)
		began = time.Now()
		third, err := all.take(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(began))
		third()
		require.Empty(t, all.busy)
	})
}
