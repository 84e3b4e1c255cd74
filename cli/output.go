package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// format of what a command prints. JSON and YAML are the admin API's own
// documents, all of them; tables and CSV have the columns that people ask for.
type format string

const (
	asTable format = "table"
	asJSON  format = "json"
	asYAML  format = "yaml"
	asCSV   format = "csv"
)

func (f *format) String() string { return string(*f) }

func (f *format) Type() string { return "format" }

// Set is what a flag calls.
func (f *format) Set(s string) error {
	switch v := format(s); v {
	case asTable, asJSON, asYAML, asCSV:
		*f = v
		return nil
	}
	return fmt.Errorf("want table, json, yaml or csv")
}

func outputFormat(cmd *cobra.Command) format {
	return format(cmd.Flags().Lookup("output").Value.String())
}

// column is one column of a table of Ts.
type column[T any] struct {
	name string
	cell func(T) any // string, number, bool, time.Time or *time.Time
}

// printList prints a list as the command line wants it. An error of the list ends it.
func printList[T any](cmd *cobra.Command, list iter.Seq2[T, error], limit int, columns []column[T]) error {
	items := []T{}
	more := false
	for item, err := range list {
		if err != nil {
			return err
		}
		if limit > 0 && len(items) == limit {
			more = true
			break
		}
		items = append(items, item)
	}
	out := cmd.OutOrStdout()
	if err := printItems(out, outputFormat(cmd), items, columns); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(cmd.ErrOrStderr(), "there are more than these %d: say --limit 0 for all\n", limit)
	}
	return nil
}

func printItems[T any](out io.Writer, f format, items []T, columns []column[T]) error {
	switch f {
	case asJSON, asYAML:
		return printDocument(out, f, items)
	case asCSV:
		return printCSV(out, items, columns)
	}
	t := newTable(out)
	header := table.Row{}
	for _, c := range columns {
		header = append(header, strings.ToUpper(c.name))
	}
	t.AppendHeader(header)
	for _, item := range items {
		row := table.Row{}
		for _, c := range columns {
			row = append(row, forPeople(c.cell(item)))
		}
		t.AppendRow(row)
	}
	t.Render()
	return nil
}

// printOne prints one object; as a table, a line for each column.
func printOne[T any](cmd *cobra.Command, item T, columns []column[T]) error {
	out := cmd.OutOrStdout()
	switch f := outputFormat(cmd); f {
	case asJSON, asYAML:
		return printDocument(out, f, item)
	case asCSV:
		return printCSV(out, []T{item}, columns)
	}
	t := newTable(out)
	for _, c := range columns {
		if s := forPeople(c.cell(item)); s != "" {
			t.AppendRow(table.Row{c.name, s})
		}
	}
	t.Render()
	return nil
}

func newTable(out io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

func printCSV[T any](out io.Writer, items []T, columns []column[T]) error {
	w := csv.NewWriter(out)
	record := make([]string, len(columns))
	for i, c := range columns {
		record[i] = strings.ReplaceAll(c.name, " ", "_")
	}
	if err := w.Write(record); err != nil {
		return err
	}
	for _, item := range items {
		for i, c := range columns {
			record[i] = forPrograms(c.cell(item))
		}
		if err := w.Write(record); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// printDocument prints the API's document. YAML is made from the JSON, so that both have the same names in the same order.
func printDocument(out io.Writer, f format, doc any) error {
	body, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if f == asJSON {
		_, err = fmt.Fprintln(out, string(body))
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(body, &node); err != nil {
		return err
	}
	blockStyle(&node)
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return err
	}
	return enc.Close()
}

// blockStyle takes JSON's braces and quotes off; the encoder quotes again what needs it.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		blockStyle(c)
	}
}

func forPeople(v any) string {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.Local().Format("2006-01-02 15:04:05")
	case *time.Time:
		if v == nil {
			return ""
		}
		return forPeople(*v)
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return clean(fmt.Sprint(v))
}

func forPrograms(v any) string {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.Format(time.RFC3339Nano)
	case *time.Time:
		if v == nil {
			return ""
		}
		return forPrograms(*v)
	}
	return fmt.Sprint(v)
}

// next says what may be done now, to people only.
func next(cmd *cobra.Command, commands ...string) {
	if outputFormat(cmd) != asTable {
		return
	}
	for _, c := range commands {
		fmt.Fprintln(cmd.ErrOrStderr(), "next:", "tenant-ops "+c+dirFlag(cmd))
	}
}

// dirFlag repeats --dir, so that a command may be copied as it stands.
func dirFlag(cmd *cobra.Command) string {
	if cmd.Flags().Changed("dir") {
		return " --dir " + fleetDir(cmd)
	}
	return ""
}

// size says bytes as people do.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, suffix := float64(n)/unit, "kB"
	for _, s := range []string{"MB", "GB", "TB"} {
		if f < unit {
			break
		}
		f, suffix = f/unit, s
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %s", f, suffix)
	}
	return fmt.Sprintf("%.0f %s", f, suffix)
}
