package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// sizeFlag is a flag of bytes: 500kB, 50MB, 1.5GB, or a plain number.
type sizeFlag struct{ to *int64 }

// sizeUnits are decimal, as the figures that are printed.
var sizeUnits = []struct {
	suffix string
	bytes  float64
}{{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}

func (f sizeFlag) Set(text string) error {
	number := strings.TrimSuffix(strings.TrimSpace(text), "/s")
	for _, u := range sizeUnits {
		if !strings.HasSuffix(number, u.suffix) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(number, u.suffix)), 64)
		if err != nil || v < 0 || v*u.bytes > 1e15 || v != v { //nolint:gocritic // NaN is a number to ParseFloat
			break
		}
		*f.to = int64(v * u.bytes)
		return nil
	}
	return errors.New("want bytes, like 500kB, 50MB or 1.5GB")
}

func (f sizeFlag) String() string {
	if f.to == nil || *f.to == 0 {
		return ""
	}
	return fmt.Sprintf("%dB", *f.to)
}

func (sizeFlag) Type() string { return "size" }
