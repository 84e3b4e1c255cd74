package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// row is one figure of the report.
type row struct {
	what, value string
	target      string // empty: none was set
	met         bool
	note        string
}

type report struct {
	table []any // title (string) or row
}

func (r *report) title(text string) { r.table = append(r.table, text) }

// plain reports a figure without a target.
func (r *report) plain(what, value, note string) {
	r.table = append(r.table, row{what: what, value: value, note: note})
}

// atMost reports a figure that has to be at most the target.
func (r *report) atMost(what, unit string, value, target float64, note string) {
	r.table = append(r.table, row{what, figure(value, unit), "≤ " + figure(target, unit), value <= target, note})
}

// atLeast reports a figure that has to be at least the target.
func (r *report) atLeast(what, unit string, value, target float64, note string) {
	r.table = append(r.table, row{what, figure(value, unit), "≥ " + figure(target, unit), value >= target, note})
}

// figure keeps three significant digits where there are fewer than that before the point.
func figure(v float64, unit string) string {
	digits := 0
	switch {
	case v == float64(int64(v)):
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, v, unit)
}

func (r *report) print(out io.Writer, took time.Duration) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options.SeparateColumns = false
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight}, {Number: 3, Align: text.AlignRight}})
	t.AppendHeader(table.Row{"", "measured", "target", "", ""})
	missed := 0
	for i, line := range r.table {
		switch line := line.(type) {
		case string:
			if i > 0 {
				t.AppendSeparator()
			}
			t.AppendRow(table.Row{text.Bold.Sprint(line)})
		case row:
			verdict := ""
			switch {
			case line.target == "":
			case line.met:
				verdict = "met"
			default:
				verdict = "MISSED"
				missed++
			}
			t.AppendRow(table.Row{"  " + line.what, line.value, line.target, verdict, line.note})
		}
	}
	t.Render()
	fmt.Fprintf(out, "%s/%s, %d processors, in %s. Targets missed: %d. What the rows mean: docs/benchmarks.md\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), took.Round(time.Second), missed)
}

// percentile of values, which it sorts.
func percentile(values []float64, p int) float64 {
	slices.Sort(values)
	return values[(len(values)-1)*p/100]
}

func median(values []float64) float64 { return percentile(values, 50) }

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }
