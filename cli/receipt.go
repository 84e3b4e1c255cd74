package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/rebalance"
)

// printReceipt prints what an operation measured: a move's in words, any
// other's figure by figure.
func printReceipt(out io.Writer, op api.Operation) {
	var figures map[string]any
	if err := json.Unmarshal(op.Receipt, &figures); err != nil || len(figures) == 0 {
		return // there is none
	}
	var r move.Receipt
	if (op.Kind == move.Kind || op.Kind == move.KindReverse) && json.Unmarshal(op.Receipt, &r) == nil && r.Tenant != "" {
		printMove(out, r)
		return
	}
	if printClone(out, op) {
		return
	}
	var run rebalance.Receipt
	if op.Kind == rebalance.KindRun && json.Unmarshal(op.Receipt, &run) == nil {
		printRun(out, run)
		return
	}
	var v move.Comparison
	if op.Kind == move.KindVerify && json.Unmarshal(op.Receipt, &v) == nil && v.Move != "" {
		printComparison(out, v)
		return
	}
	fmt.Fprintln(out, "\nreceipt")
	printFigures(out, figures, "  ")
}

func printMove(out io.Writer, r move.Receipt) {
	fmt.Fprintln(out, "\nreceipt")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-13s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	line("moved", "%s from %s to %s", r.Tenant, r.From, r.To)
	kept := r.CopyMBPerS == 0 // taken back: nothing was copied
	if !kept {
		line("copied", "%s in %d tables at %.1f MB/s", size(r.Bytes), r.Tables, r.CopyMBPerS)
	} else {
		line("copied", "nothing: %d tables were kept in step", r.Tables)
	}
	line("pause", "%s of %s allowed; %s for clients attached to PgBouncer", milliseconds(r.PauseMS), milliseconds(r.MaxPauseMS), milliseconds(r.AttachedPauseMS))
	after := ""
	if !kept {
		after = r.Verification.Copy + " after the copy, "
	}
	line("verification", "%s%s at the cutover: %d rows in %d tables", after, r.Verification.Final, r.Verification.Rows, r.Verification.Tables)
	for _, d := range r.Verification.Detail {
		line("", "%s", d)
	}
	var phases []string
	for _, p := range r.Phases {
		if !strings.Contains(p.Name, "/") { // parts of a phase are in -o json
			phases = append(phases, p.Name+" "+milliseconds(p.MS))
		}
	}
	line("phases", "%s", strings.Join(phases, ", "))
	for i, a := range r.Attempts {
		line("cutover", "try %d: %s; clients held for %s, %d of %d nodes drained", i+1, a.Outcome, milliseconds(a.HeldMS), a.NodesDrained, a.Nodes)
		for _, n := range a.Clients {
			line("", "%s", heldAt(n))
		}
		if silent := a.Nodes - len(a.Clients); silent > 0 {
			line("", "%d of %d nodes did not say what their requests saw", silent, a.Nodes)
		}
	}
	if r.SoakUntil != nil {
		line("soak", "until %s the tenant can be taken back", r.SoakUntil.Format(time.RFC3339))
	}
	for _, w := range r.Warnings {
		line("warning", "%s", w)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
}

// heldAt says what requests at one node saw of an attempt.
func heldAt(n move.NodeHold) string {
	if n.Held == 0 {
		return fmt.Sprintf("node %s: no request waited", n.Node)
	}
	return fmt.Sprintf("node %s: %d requests waited, the longest for %s", n.Node, n.Held, milliseconds(n.LongestMS))
}

func milliseconds(ms move.MS) string {
	if ms < 100 {
		return fmt.Sprintf("%.1f ms", float64(ms))
	}
	return took(time.Duration(float64(ms) * float64(time.Millisecond)))
}

func printFigures(out io.Writer, doc map[string]any, indent string) {
	keys := make([]string, 0, len(doc))
	for k := range doc {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		name := clean(strings.ReplaceAll(k, "_", " "))
		switch v := doc[k].(type) {
		case map[string]any:
			fmt.Fprintf(out, "%s%s\n", indent, name)
			printFigures(out, v, indent+"  ")
		case []any:
			printSeries(out, name, v, indent)
		default:
			fmt.Fprintf(out, "%s%-24s %s\n", indent, name, figure(v))
		}
	}
}

func printSeries(out io.Writer, name string, list []any, indent string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(out, "%s%s\n", indent, name)
	for _, v := range list {
		doc, ok := v.(map[string]any)
		if !ok {
			fmt.Fprintf(out, "%s  - %s\n", indent, figure(v))
			continue
		}
		var parts []string
		for k, v := range doc {
			parts = append(parts, clean(strings.ReplaceAll(k, "_", " "))+" "+figure(v))
		}
		sort.Strings(parts)
		fmt.Fprintf(out, "%s  - %s\n", indent, strings.Join(parts, ", "))
	}
}

func figure(v any) string {
	switch v := v.(type) {
	case float64:
		if v == float64(int64(v)) {
			return fmt.Sprint(int64(v))
		}
		return fmt.Sprintf("%.2f", v)
	case string:
		return clean(v)
	case nil:
		return "-"
	case map[string]any, []any:
		text, err := json.Marshal(v)
		if err != nil {
			return "?"
		}
		return clean(string(text))
	}
	return fmt.Sprint(v)
}
