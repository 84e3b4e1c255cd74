package demo

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// show tells the story: a line for each act, and on a terminal a line below it
// that says how far it is. Elsewhere that line is printed now and then.
type show struct {
	out   io.Writer
	width int // of the terminal; 0: none

	mu      sync.Mutex
	began   time.Time
	act     time.Time
	saidAt  time.Time
	pending bool // the terminal's last line is a live one
}

const sayEvery = 3 * time.Second

func newShow(out io.Writer) *show {
	s := &show{out: out, began: time.Now()}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.width = 100
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 40 {
			s.width = w
		}
	}
	return s
}

// begin opens an act; call done with what is to be said at its end.
func (s *show) begin(title string) (done func(note string)) {
	s.say(title)
	s.mu.Lock()
	s.act, s.saidAt = time.Now(), time.Now()
	s.mu.Unlock()
	return func(note string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clear()
		if note != "" {
			note = "  " + note
		}
		fmt.Fprintf(s.out, "        ✓ %.1f s%s\n", time.Since(s.act).Seconds(), note)
	}
}

// say prints a line that stays.
func (s *show) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.out, "%6.1f  %s\n", time.Since(s.began).Seconds(), text)
}

// live says how far the act is.
func (s *show) live(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.width == 0 {
		if time.Since(s.saidAt) >= sayEvery {
			s.saidAt = time.Now()
			fmt.Fprintf(s.out, "        · %s\n", text)
		}
		return
	}
	line := []rune("        · " + text)
	if len(line) >= s.width {
		line = append(line[:s.width-2], '…')
	}
	fmt.Fprintf(s.out, "\r\x1b[K%s", string(line))
	s.pending = true
}

// end leaves whole lines behind.
func (s *show) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *show) clear() {
	if s.pending {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.pending = false
	}
}
