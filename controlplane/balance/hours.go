package balance

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Hours is a set of hours of the day in UTC: bit h is the hour that begins at h:00.
type Hours uint32

// At tells whether the time is in one of the hours.
func (h Hours) At(now time.Time) bool { return h&(1<<now.UTC().Hour()) != 0 }

// minutesADay is also the greatest end of a window.
const minutesADay = 24 * 60

// Window is a time of the day, in minutes after midnight UTC. One that ends
// before it begins goes on past midnight, and belongs to the day it began on.
type Window struct {
	From, To int            // From is in the window, To is not
	Days     []time.Weekday // on which it begins; none: every day
}

func (w Window) validate() error {
	if w.From < 0 || w.From >= minutesADay || w.To < 0 || w.To > minutesADay || w.From == w.To {
		return fmt.Errorf("%w policy: quiet hours %s: want two different times of the day", ErrInvalid, w)
	}
	for _, d := range w.Days {
		if d < time.Sunday || d > time.Saturday {
			return fmt.Errorf("%w policy: quiet hours %s: there is no weekday %d", ErrInvalid, w, d)
		}
	}
	return nil
}

// String is like "mon,tue 22:00-06:00".
func (w Window) String() string {
	var days []string
	for _, d := range w.Days {
		days = append(days, strings.ToLower(d.String()[:3]))
	}
	text := fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
	if len(days) > 0 {
		text = strings.Join(days, ",") + " " + text
	}
	return text
}

// ParseWindow reads what [Window.String] writes, and ranges of days:
// "22:00-06:00", "mon-fri 08:00-18:00", "sat,sun 00:00-24:00". Errors: ErrInvalid.
func ParseWindow(text string) (w Window, err error) {
	wrong := fmt.Errorf("%w quiet hours %q: want a time of the day like 22:00-06:00, with days before it if not on all: mon-fri 08:00-18:00", ErrInvalid, text)
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return Window{}, wrong
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	var okFrom, okTo bool
	w.From, okFrom = parseMinute(from)
	w.To, okTo = parseMinute(to)
	if !ok || !okFrom || !okTo {
		return Window{}, wrong
	}
	if len(fields) == 2 {
		for part := range strings.SplitSeq(fields[0], ",") {
			first, last, ranged := strings.Cut(part, "-")
			if !ranged {
				last = first
			}
			day, known := weekday(first)
			end, knownEnd := weekday(last)
			if !known || !knownEnd {
				return Window{}, wrong
			}
			for ; ; day = (day + 1) % 7 {
				if len(w.Days) == 0 || !w.on(day) {
					w.Days = append(w.Days, day)
				}
				if day == end {
					break
				}
			}
		}
	}
	return w, w.validate()
}

func parseMinute(text string) (int, bool) {
	if len(text) != 5 || text[2] != ':' {
		return 0, false
	}
	h, err := strconv.ParseUint(text[:2], 10, 8)
	m, errM := strconv.ParseUint(text[3:], 10, 8)
	return int(h*60 + m), err == nil && errM == nil && m < 60 && h*60+m <= minutesADay //nolint:gosec // at most two digits
}

func weekday(text string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if short := strings.ToLower(d.String()[:3]); text == short {
			return d, true
		}
	}
	return 0, false
}

func (w Window) on(day time.Weekday) bool {
	for _, d := range w.Days {
		if d == day {
			return true
		}
	}
	return len(w.Days) == 0
}

// end tells when the window that now is in ends.
func (w Window) end(now time.Time) (time.Time, bool) {
	now = now.UTC()
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for _, day := range []time.Time{today.AddDate(0, 0, -1), today} {
		if !w.on(day.Weekday()) {
			continue
		}
		from, to := day.Add(time.Duration(w.From)*time.Minute), day.Add(time.Duration(w.To)*time.Minute)
		if w.To < w.From {
			to = to.AddDate(0, 0, 1)
		}
		if !now.Before(from) && now.Before(to) {
			return to, true
		}
	}
	return time.Time{}, false
}

// QuietUntil tells whether no move may begin now, and when that ends. Windows
// that follow each other count as one.
func (p *Policy) QuietUntil(now time.Time) (until time.Time, quiet bool) {
	return quietUntil(p.Quiet, now)
}

func quietUntil(windows []Window, now time.Time) (until time.Time, quiet bool) {
	until = now
	// Each round leaves one window; in a week every window was met.
	for range 7*len(windows) + 1 {
		last := until
		for _, w := range windows {
			if end, in := w.end(until); in {
				until, quiet = end, true
			}
		}
		if until.Equal(last) {
			break
		}
	}
	return until, quiet
}

// always refuses quiet hours that leave no minute of the week.
func always(windows []Window) error {
	if len(windows) == 0 {
		return nil
	}
	monday := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	if until, quiet := quietUntil(windows, monday); quiet && until.Sub(monday) >= 7*24*time.Hour {
		return fmt.Errorf("%w policy: quiet hours leave no time for any move", ErrInvalid)
	}
	return nil
}
