package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// progress shows an operation as one line for each phase. On a terminal the
// line under way is drawn again and again; elsewhere a line is printed when
// there is news, so that a log stays readable.
type progress struct {
	out   io.Writer
	width int // of the terminal; 0: none
	// done counts the journal's finished lines that are printed.
	done    int
	live    bool // an unfinished line is on the terminal
	said    string
	saidAt  time.Time
	nowFunc func() time.Time
}

// sayEvery is how often a growing percentage is news where there is no terminal.
const sayEvery = 5 * time.Second

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, nowFunc: time.Now}
	if isTerminal(out) {
		p.width = 80
		if f, ok := out.(*os.File); ok {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
				p.width = w
			}
		}
	}
	return p
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// show prints what is new in op.
func (p *progress) show(op api.Operation) {
	finished := 0
	for _, s := range op.Steps {
		if s.FinishedAt == nil {
			continue
		}
		if finished++; finished > p.done {
			p.line(finishedLine(s))
			p.done = finished
		}
	}
	if op.Final() {
		p.clear()
		if op.State != "done" && op.Error != "" {
			p.line("✗ " + op.State + ": " + clean(op.Error))
		}
		return
	}
	now := liveLine(op)
	if p.width > 0 {
		p.redraw(now)
		return
	}
	// The words are news at once, the figures now and then.
	words := op.Step + op.Progress.Phase + op.Progress.Waiting + op.State
	if words != p.said || p.nowFunc().Sub(p.saidAt) >= sayEvery {
		p.said, p.saidAt = words, p.nowFunc()
		p.line(now)
	}
}

func finishedLine(s api.Step) string {
	name := clean(s.Step)
	if s.Undo {
		name = "undo " + name
	}
	spent := took(s.FinishedAt.Sub(s.StartedAt))
	if s.Error != "" {
		return fmt.Sprintf("✗ %-28s %8s  try %d: %s", name, spent, s.Attempt, clean(s.Error))
	}
	return fmt.Sprintf("✓ %-28s %8s", name, spent)
}

func liveLine(op api.Operation) string {
	name := op.Progress.Phase
	if name == "" {
		name = op.Step
	}
	if name == "" {
		name = op.State
	}
	if op.State == "undoing" {
		name = "undo " + name
	}
	parts := []string{fmt.Sprintf("· %-28s %7.0f%%", clean(name), op.Progress.Percent)}
	if op.Progress.BytesTotal > 0 {
		parts = append(parts, size(op.Progress.BytesDone)+" of "+size(op.Progress.BytesTotal))
	}
	if op.Progress.BytesPerSecond > 0 {
		parts = append(parts, size(int64(op.Progress.BytesPerSecond))+"/s")
	}
	if op.Progress.ETASeconds > 0 {
		parts = append(parts, "about "+took(time.Duration(op.Progress.ETASeconds*float64(time.Second)))+" left")
	}
	switch {
	case op.Progress.Waiting != "":
		parts = append(parts, "waiting for "+clean(op.Progress.Waiting))
	case op.State == "pending" && op.Error != "":
		parts = append(parts, "tried again soon: "+clean(op.Error))
	case op.State == "pending":
		parts = append(parts, "waiting for a worker")
	}
	if op.CancelRequested && !op.PastNoReturn {
		parts = append(parts, "cancel asked for")
	}
	return strings.Join(parts, "  ")
}

// line prints a line that stays.
func (p *progress) line(s string) {
	p.clear()
	fmt.Fprintln(p.out, s)
}

func (p *progress) redraw(s string) {
	runes := []rune(strings.ReplaceAll(s, "\n", " "))
	if len(runes) >= p.width {
		runes = append(runes[:p.width-2], '…')
	}
	fmt.Fprint(p.out, "\r\x1b[K"+string(runes))
	p.live = true
}

func (p *progress) clear() {
	if p.live {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.live = false
	}
}

// close leaves the terminal with a whole line.
func (p *progress) close() { p.clear() }
