package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

const (
	// quietFor is the longest silence of a stream; the server sends something every ten seconds.
	quietFor = 35 * time.Second
	// lostFor is how long a watcher looks for a control plane that has gone away.
	// Its operations are taken over by another replica or by its next start meanwhile.
	lostFor = 2 * time.Minute
	maxLine = 16 << 20
)

// Watch calls see with the operation's state now and after each change, until
// it is over, and returns the final state. It outlives restarts of the control
// plane of up to two minutes. An error of see ends it and is returned.
// Ending ctx ends the watching, not the operation.
func (c *Client) Watch(ctx context.Context, id string, see func(api.Operation) error) (api.Operation, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 2*time.Second
	lost := time.Now()
	for {
		op, err := c.stream(ctx, id, func(op api.Operation) error {
			lost = time.Now()
			wait.Reset()
			return see(op)
		})
		var stop *stopError
		switch {
		case err == nil && op.Final():
			return op, nil
		case ctx.Err() != nil:
			return op, ctx.Err()
		case errors.As(err, &stop):
			return op, stop.err
		case err != nil && !worthAnother(err):
			return op, err
		case time.Since(lost) > lostFor:
			if err == nil {
				err = fmt.Errorf("%w: its streams end early", ErrUnreachable)
			}
			return op, err
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			return op, ctx.Err()
		}
	}
}

// stopError carries an error of the watcher's own past the retries.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// stream reads one stream to its end and returns the last state seen.
func (c *Client) stream(ctx context.Context, id string, see func(api.Operation) error) (last api.Operation, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, operationPath(id)+"/watch", nil, nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return last, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	if resp.StatusCode != http.StatusOK {
		return last, read(resp, nil)
	}
	// A connection that died without a word would keep us for ever.
	quiet := time.AfterFunc(quietFor, cancel)
	defer quiet.Stop()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, fmt.Errorf("%w: the stream broke off: %w", ErrUnreachable, err)
		}
		quiet.Reset(quietFor)
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue // the event's name, a heartbeat, or the blank line between
		}
		var op api.Operation
		if err := json.Unmarshal(data, &op); err != nil {
			return last, fmt.Errorf("stream of operation %s is not what the admin API sends: %w", id, err)
		}
		last = op
		if err := see(op); err != nil {
			return last, &stopError{err}
		}
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimRight(line, "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxLine:
			return nil, errors.New("a line is too long")
		}
	}
}
