package data

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// pipeBuffer gathers rows, which arrive one by one, before they change goroutines.
const pipeBuffer = 256 << 10

// pipe copies one chunk and returns how many rows. src must be inside the
// snapshot's transaction. moved counts bytes as they pass, pace holds them back.
func pipe(ctx context.Context, src, dst *pgconn.PgConn, t survey.Table, c chunk, moved *atomic.Int64, pace *pace.Pace) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	type result struct {
		tag pgconn.CommandTag
		err error
	}
	read := make(chan result, 1)
	go func() {
		stream := pace.Stream()
		buffered := bufio.NewWriterSize(&counter{w, moved, func(n int) error { return stream.Take(ctx, n) }}, pipeBuffer)
		tag, err := src.CopyTo(ctx, buffered, copyOut(t, c))
		if err == nil {
			err = buffered.Flush()
		}
		_ = w.CloseWithError(err) // nil is a clean end; it never fails
		read <- result{tag, err}
	}()
	tag, err := dst.CopyFrom(ctx, r, copyIn(t))
	if err != nil {
		cancel() // or the reading end waits for a pipe that nobody empties
	}
	_ = r.CloseWithError(errors.Join(io.ErrClosedPipe, err)) // it never fails
	out := <-read
	switch {
	case out.err != nil && !errors.Is(out.err, io.ErrClosedPipe) && !errors.Is(out.err, context.Canceled):
		return 0, fmt.Errorf("copy %s: source: %w", t.Ident(), out.err)
	case err != nil:
		return 0, fmt.Errorf("copy %s: target: %w", t.Ident(), err)
	case out.err != nil:
		return 0, fmt.Errorf("copy %s: source: %w", t.Ident(), out.err)
	case tag.RowsAffected() != out.tag.RowsAffected():
		return 0, fmt.Errorf("copy %s: %d rows read, %d written", t.Ident(), out.tag.RowsAffected(), tag.RowsAffected())
	}
	return tag.RowsAffected(), nil
}

type counter struct {
	w    io.Writer
	n    *atomic.Int64
	wait func(n int) error
}

func (c *counter) Write(p []byte) (int, error) {
	if err := c.wait(len(p)); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}
