// Package config is what the servers' configurations have in common: a YAML
// file, overridden by environment variables, filled up with defaults and
// refused when nothing can run on it.
//
// Import law: config imports no other package of this module.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/caarlos0/env/v11"
	"gopkg.in/yaml.v3"
)

// Checked is a configuration. Its fields are tagged `yaml` and `env`.
type Checked interface {
	// Defaults fills what is zero.
	Defaults()
	// Validate refuses what no server can run on; its error lists everything
	// wrong and never a secret.
	Validate() error
}

// Load reads a YAML file (an empty path: none), lets environment variables
// override it, fills in defaults and validates. An unknown key is an error: a
// typo must not silently leave a bound off. what names the configuration in errors.
func Load[T any, P interface {
	*T
	Checked
}](what, path string) (T, error) {
	var c, none T
	if err := read(&c, path); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	P(&c).Defaults()
	if err := P(&c).Validate(); err != nil {
		return none, err
	}
	return c, nil
}

func read(c any, path string) error {
	if path != "" {
		b, err := os.ReadFile(path) //nolint:gosec // the operator's own file
		if err != nil {
			return err
		}
		dec := yaml.NewDecoder(bytes.NewReader(b))
		dec.KnownFields(true)
		if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) { // an empty file is none
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return env.Parse(c)
}

// Faults collects what is wrong with a configuration.
type Faults []error

// Check adds a fault unless ok.
func (f *Faults) Check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// Err is nil without faults; otherwise it lists them all, after what is faulty.
func (f Faults) Err(what string) error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, errors.Join(f...))
}

// Default sets *p to v if it is zero.
func Default[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// InstanceName is the name of a server that was given none: host name and
// process ID, which no other running process of a fleet has.
func InstanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
