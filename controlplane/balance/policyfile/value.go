package policyfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/controlplane/balance"
)

// share is written as 20% or 0.2.
type share float64

// UnmarshalYAML reads it.
func (s *share) UnmarshalYAML(n *yaml.Node) error {
	text, percent := strings.CutSuffix(n.Value, "%")
	v, ok := parse(text)
	if !ok {
		return fmt.Errorf("line %d: %q: want a share, like 20%%", n.Line, n.Value)
	}
	if percent {
		v /= 100
	}
	*s = share(v)
	return nil
}

// MarshalYAML writes it.
func (s share) MarshalYAML() (any, error) {
	text := format(float64(s) * 100)
	if v, _ := parse(text); v/100 == float64(s) && len(text) <= 6 {
		return text + "%", nil
	}
	return float64(s), nil
}

// number is any number that is not negative.
type number float64

// UnmarshalYAML reads it.
func (x *number) UnmarshalYAML(n *yaml.Node) error {
	v, ok := parse(n.Value)
	if !ok {
		return fmt.Errorf("line %d: %q: want a number", n.Line, n.Value)
	}
	*x = number(v)
	return nil
}

// amount of bytes is written with a unit, like 500GB or 2TiB; rate is one a second.
type amount float64

type rate float64

var units = []struct {
	name  string
	bytes float64
}{
	{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
	{"PiB", 1 << 50}, {"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1},
}

func parseBytes(text string) (float64, bool) {
	for _, u := range units {
		if count, has := strings.CutSuffix(text, u.name); has {
			v, ok := parse(strings.TrimSpace(count))
			return v * u.bytes, ok && v <= math.MaxFloat64/u.bytes
		}
	}
	return parse(text)
}

func formatBytes(v float64) string {
	for _, u := range units[:5] {
		text := format(v / u.bytes)
		if back, _ := parse(text); v >= u.bytes && back*u.bytes == v && len(text) <= 6 {
			return text + u.name
		}
	}
	return format(v)
}

// UnmarshalYAML reads it.
func (a *amount) UnmarshalYAML(n *yaml.Node) error {
	v, ok := parseBytes(n.Value)
	if !ok {
		return fmt.Errorf("line %d: %q: want a number of bytes, like 500GB", n.Line, n.Value)
	}
	*a = amount(v)
	return nil
}

// MarshalYAML writes it.
func (a amount) MarshalYAML() (any, error) {
	text := formatBytes(float64(a))
	if v, plain := parse(text); plain && v == math.Trunc(v) && v < 1<<53 {
		return int64(v), nil // without quotes
	}
	return text, nil
}

// UnmarshalYAML reads it.
func (r *rate) UnmarshalYAML(n *yaml.Node) error {
	v, ok := parseBytes(strings.TrimSuffix(n.Value, "/s"))
	if !ok {
		return fmt.Errorf("line %d: %q: want bytes a second, like 50MB/s", n.Line, n.Value)
	}
	*r = rate(v)
	return nil
}

// MarshalYAML writes it.
func (r rate) MarshalYAML() (any, error) {
	return formatBytes(float64(r)) + "/s", nil
}

// window is written as [balance.Window] is.
type window balance.Window

// UnmarshalYAML reads it.
func (w *window) UnmarshalYAML(n *yaml.Node) error {
	v, err := balance.ParseWindow(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*w = window(v)
	return nil
}

// MarshalYAML writes it.
func (w window) MarshalYAML() (any, error) { return balance.Window(w).String(), nil }

// parse reads a number that is finite and not negative.
func parse(text string) (float64, bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && v >= 0 && !math.IsInf(v, 0)
}

func format(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
