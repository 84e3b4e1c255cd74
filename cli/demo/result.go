package demo

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/internal/ledger"
)

// Result is what the demo measured.
type Result struct {
	Tenants  int   `json:"tenants"`
	Bytes    int64 `json:"bytes"`
	BigBytes int64 `json:"moved_tenant_bytes"`
	// NodeAway is how long a data-plane node was away, in seconds.
	NodeAway float64 `json:"node_away_s"`
	Moves    []Move  `json:"moves"`
	// EndsOn is the shard the moved tenant lives on at the end.
	EndsOn  string         `json:"ends_on"`
	Ledger  ledger.Receipt `json:"traffic"`
	Seconds float64        `json:"seconds"`
	// Sound is true when all was measured and nothing is wrong; Wrong lists what is.
	Sound bool     `json:"sound"`
	Wrong []string `json:"wrong"`
}

// Move is one move of the tenant, by its operation's receipt and by the client's book.
type Move struct {
	Operation  string  `json:"operation"`
	From       string  `json:"from"`
	To         string  `json:"to"`
	Rows       int64   `json:"rows"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	CopyMBPerS float64 `json:"copy_mb_per_s"`
	// Pause is the control plane's measure, ClientPause the longest time the tenant's client had no good answer meanwhile.
	Pause         ledger.Milliseconds `json:"pause_ms"`
	ClientPause   ledger.Milliseconds `json:"client_pause_ms"`
	VerifiedCopy  string              `json:"verified_copy"`
	VerifiedFinal string              `json:"verified_final"`
}

// verdict fills in what is wrong, and is [ErrUnsound] if anything is.
func (r *Result) verdict() error {
	r.Wrong = []string{}
	say := func(bad bool, format string, args ...any) {
		if bad {
			r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...))
		}
	}
	var joined interface{ Unwrap() []error }
	if errors.As(r.Ledger.Wrong(), &joined) {
		for _, err := range joined.Unwrap() {
			r.Wrong = append(r.Wrong, err.Error())
		}
	}
	say(r.Ledger.Requests == 0, "no request was made")
	say(r.Ledger.Databases.Checked == 0 || r.Ledger.API.Checked == 0, "nothing was audited")
	say(len(r.Moves) != 2, "%d moves took place, not 2", len(r.Moves))
	for i, m := range r.Moves {
		say(m.Rows == 0 || m.Bytes == 0 || m.CopyMBPerS == 0, "move %d carried nothing", i+1)
		say(m.Pause <= 0 || m.ClientPause <= 0, "the pause of move %d was not measured", i+1)
		say(m.VerifiedCopy != move.Equal || m.VerifiedFinal != move.Equal, "move %d is verified as: copy %s, final %s", i+1, m.VerifiedCopy, m.VerifiedFinal)
	}
	say(r.EndsOn != fromShard, "%s ends on shard %q, not on %s", big, r.EndsOn, fromShard)
	say(r.NodeAway == 0 || r.Ledger.TurnedAway == 0, "nobody noticed that a node was away")
	if r.Sound = len(r.Wrong) == 0; !r.Sound {
		return ErrUnsound
	}
	return nil
}

// Print writes the receipt for people.
func (r Result) Print(out io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options.SeparateColumns = false
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight}})
	row := func(name, value, note string) { t.AppendRow(table.Row{name, value, note}) }
	l := r.Ledger
	row("requests", number(l.Requests), fmt.Sprintf("%s reads, %s writes, in %.0f s", number(l.Reads), number(l.Writes), l.Seconds))
	row("failed requests", number(l.Failed+l.Unknown), fmt.Sprintf("%d refused by the stopped node went to the other one", l.TurnedAway))
	t.AppendSeparator()
	row("writes acknowledged", number(l.Acknowledged), "held against the databases, and against what the API shows")
	row("  lost", number(l.Databases.Lost+l.API.Lost+l.ReadMissing), "")
	row("  doubled", number(l.Databases.Doubled+l.API.Doubled), "")
	row("  there, but refused", number(l.Databases.Ghosts+l.API.Ghosts), "")
	row("rows read", number(l.RowsRead), "each checked for whose it is")
	row("  another tenant's", number(l.ReadForeign+l.Databases.Foreign+l.API.Foreign), "")
	t.AppendSeparator()
	for _, m := range r.Moves {
		row(fmt.Sprintf("%s %s → %s", big, m.From, m.To), fmt.Sprintf("%.1f s", m.Seconds), fmt.Sprintf("%s rows, %s at %.0f MB/s; compared: %s", number(m.Rows), megabytes(m.Bytes), m.CopyMBPerS, m.VerifiedFinal))
		row("  pause", m.ClientPause.String(), fmt.Sprintf("as its client saw it, at a request every %s; measured inside: %s", every(), m.Pause))
	}
	row("longest pause of all", r.longest().String(), "any tenant, at any time")
	row("answer times", l.P50.String(), fmt.Sprintf("median; 95 %%: %s, 99 %%: %s, longest: %s", l.P95, l.P99, l.Max))
	t.Render()
	for _, f := range l.Failures {
		fmt.Fprintln(out, "failed:", f.At.Format(time.TimeOnly), f.Error())
	}
	for _, w := range r.Wrong {
		fmt.Fprintln(out, "WRONG:", w)
	}
	switch {
	case r.Sound:
		fmt.Fprintln(out, "All is well.")
	case len(r.Wrong) == 0:
		fmt.Fprintln(out, "WRONG: the demo did not get to its end")
	}
}

func (r Result) longest() (longest ledger.Milliseconds) {
	for _, t := range r.Ledger.Tenants {
		longest = max(longest, t.LongestGap)
	}
	return longest
}

func every() time.Duration {
	i := slices.IndexFunc(cast, func(c member) bool { return c.id == big })
	return time.Duration(float64(time.Second) / cast[i].rate)
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

// number groups digits by three.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
