package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/shardmap"
)

// Exit statuses of tenant-ops. Scripts may decide on them; exitHelp is the same for people.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnavailable = 5
	exitInterrupted = 130
)

const exitHelp = `Exit status:
  0  it is done
  1  it failed
  2  the command line is wrong, or an ID or value on it
  3  there is no such tenant, shard or operation (or plan, key, role …)
  4  refused: the state of things, a rule or your role does not allow it; nothing was changed
  5  no fleet, or it can't be reached or answer now; try again
  130  Ctrl-C while waiting; the operation goes on`

// statusError ends the program with a status of its own.
type statusError struct {
	status int
	hint   string
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }
func (e *statusError) Hint() string  { return e.hint }

// report writes what went wrong for a person and returns the exit status.
func report(w io.Writer, err error) int {
	status, hint := diagnose(err)
	var quiet *silentError
	if errors.As(err, &quiet) {
		return quiet.status
	}
	fmt.Fprintln(w, "error:", clean(err.Error()))
	var refusal *client.Error
	if errors.As(err, &refusal) {
		for _, p := range refusal.Errors {
			place := strings.TrimPrefix(p.Pointer, "#/") + p.Parameter
			if place != "" && !strings.Contains(err.Error(), p.Detail) {
				fmt.Fprintf(w, "  %s %s\n", clean(place), clean(p.Detail))
			}
		}
		if refusal.Code == "internal" {
			fmt.Fprintln(w, "  request ID:", clean(refusal.RequestID))
		}
	}
	if hint != "" {
		fmt.Fprintln(w, "hint:", clean(hint))
	}
	return status
}

// silentError ends the program with a status when all has been said already.
type silentError struct{ status int }

func (e *silentError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// diagnose gives the exit status and what to do next.
func diagnose(err error) (status int, hint string) {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		hint = hinted.Hint()
	}
	var own *statusError
	var usage *usageError
	var refusal *client.Error
	switch {
	case errors.As(err, &own):
		return own.status, hint
	case errors.As(err, &usage):
		return exitUsage, "run `" + usage.command + " --help` to see how it is used"
	case errors.As(err, &refusal):
		return statusOf(refusal), refusal.Hint
	case errors.Is(err, client.ErrUnreachable):
		return exitUnavailable, "is the control plane running? `tenant-ops dev status` tells for a development fleet; a change may be asked for again without harm"
	case errors.Is(err, dev.ErrNotRunning):
		return exitUnavailable, "start a fleet with `tenant-ops dev`, or set " + envURL + " and " + envToken
	case errors.Is(err, shardmap.ErrInvalidID):
		return exitUsage, hint
	case errors.Is(err, issuer.ErrNotStarted):
		return exitUnavailable, "development tokens come from a development fleet: start one with `tenant-ops dev`, or name its directory with --dir"
	case errors.Is(err, context.Canceled):
		return exitInterrupted, hint
	case errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable, "try again, or allow more time with --timeout"
	}
	return exitFailed, hint
}

func statusOf(e *client.Error) int {
	switch e.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return exitUsage
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed,
		http.StatusUnprocessableEntity:
		return exitRefused
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return exitUnavailable
	}
	return exitFailed
}

// clean keeps text from elsewhere from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}
