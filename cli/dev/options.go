// Package dev brings up a whole fleet on one machine: a catalog Postgres,
// shards (each a Postgres with its PgBouncer), NATS, a token issuer, the
// control plane and data-plane nodes, all bound to loopback. `tenant-ops dev`
// and the end-to-end tests share it. It is a convenience only: each part runs
// with the configuration that it would have in production.
//
// Import law: dev is part of cli and may import everything below it.
package dev

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/dataplane"
)

// Errors a caller decides on.
var (
	// ErrRunning: a fleet is up in this directory already.
	ErrRunning = errors.New("a fleet is already running here")
	// ErrNotRunning: no fleet is up in this directory.
	ErrNotRunning = errors.New("no fleet is running here")
	// ErrInProcess: the part shares our process and cannot be killed alone; see [Options.Processes].
	ErrInProcess = errors.New("runs inside the process of dev")
	// ErrNoPart: the fleet has no part of that name.
	ErrNoPart = errors.New("no such part of the fleet")
)

// Options say what fleet to bring up. Zero fields take the defaults.
type Options struct {
	// Dir keeps all state; a second Start on it resumes the fleet. Required.
	Dir string
	// Shards is the number of shards; default: as before, or 3. A fleet can grow but not shrink.
	Shards int
	// Nodes is the number of data-plane nodes; default: as before, or 2.
	Nodes int
	// TLS has every link of the fleet be by TLS; a fleet stays as it was made.
	TLS bool
	// Processes runs NATS, control plane and nodes as processes of their own, so that each can be killed.
	Processes bool
	// Binary is the tenant-ops program that these run; default: the running program.
	Binary string
	// ExternalNATS is the URL of a NATS server to use instead of one of our own.
	ExternalNATS string
	// Migrations is a directory of goose SQL files, the schema of every tenant; default: the sample schema.
	Migrations string
	// PostgresBin names, for shards whose Postgres is not the machine's, the
	// directories with their postgres and initdb, by ID; remembered with the fleet.
	PostgresBin map[string]string
	// FastUnsafe runs Postgres without fsync: for tests that throw the data away.
	FastUnsafe bool
	// ControlPlanes is the number of replicas of the control plane; default 1.
	ControlPlanes int
	// ControlPlane and DataPlane may change a server's configuration before it is used,
	// Shard what is registered of a shard: for tests that put something in between.
	ControlPlane func(*controlplane.Config)
	DataPlane    func(*dataplane.Config)
	Shard        func(*api.AddShard) error
	// Progress is told what is being done, in a few words; may be nil.
	Progress func(string)
	// Level is what the parts log; default info.
	Level slog.Level
}

const (
	defaultShards = 3
	defaultNodes  = 2
	maxShards     = 32
	maxNodes      = 16
)

func (o *Options) complete() error {
	if o.Dir == "" {
		return errors.New("dev: no directory given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	o.Dir = dir
	if o.Shards < 0 || o.Shards > maxShards {
		return fmt.Errorf("dev: %d shards: want 1 to %d", o.Shards, maxShards)
	}
	if o.Nodes < 0 || o.Nodes > maxNodes {
		return fmt.Errorf("dev: %d nodes: want 1 to %d", o.Nodes, maxNodes)
	}
	if o.ControlPlanes = max(1, o.ControlPlanes); o.ControlPlanes > maxNodes {
		return fmt.Errorf("dev: %d control planes: want 1 to %d", o.ControlPlanes, maxNodes)
	}
	if o.Migrations != "" {
		if o.Migrations, err = filepath.Abs(o.Migrations); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		if st, err := os.Stat(o.Migrations); err != nil || !st.IsDir() {
			return fmt.Errorf("dev: migrations: %s is no directory", o.Migrations)
		}
	}
	for id, dir := range o.PostgresBin {
		if o.PostgresBin[id], err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		for _, program := range []string{"postgres", "initdb"} {
			if _, err := os.Stat(filepath.Join(o.PostgresBin[id], program)); err != nil {
				return fmt.Errorf("dev: the Postgres of shard %s: %w", id, err)
			}
		}
	}
	if o.Processes {
		if o.Binary == "" {
			o.Binary, err = os.Executable()
		} else {
			o.Binary, err = filepath.Abs(o.Binary) // the parts run in a directory of their own
		}
		if err != nil {
			return fmt.Errorf("dev: %w", err)
		}
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return nil
}

// layout names the files of a fleet's directory.
type layout string

func (l layout) info() string              { return filepath.Join(string(l), "dev.json") }
func (l layout) state() string             { return filepath.Join(string(l), "state.json") }
func (l layout) lock() string              { return filepath.Join(string(l), "lock") }
func (l layout) secrets() string           { return filepath.Join(string(l), "secrets") }
func (l layout) copies() string            { return filepath.Join(string(l), "copies") }
func (l layout) issuer() string            { return filepath.Join(string(l), "issuer") }
func (l layout) nats() string              { return filepath.Join(string(l), "nats") }
func (l layout) pki() string               { return filepath.Join(string(l), "pki") }
func (l layout) migrations() string        { return filepath.Join(string(l), "migrations") }
func (l layout) log(name string) string    { return filepath.Join(string(l), "log", name+".log") }
func (l layout) config(name string) string { return filepath.Join(string(l), "config", name) }
func (l layout) pid(name string) string    { return filepath.Join(string(l), "run", name+".pid") }
func (l layout) server(name string) string { return filepath.Join(string(l), "server", name) }

// IssuerDir is where a fleet's token issuer keeps its key; see issuer.Open.
func IssuerDir(dir string) string { return layout(dir).issuer() }

// LogFile is where the named part writes its log.
func LogFile(dir, part string) string { return layout(dir).log(part) }

func (l layout) create() error {
	// Not 0700: the servers' account, when it is not ours, passes through. All
	// that is secret in here is mode 0600 or below a directory that is 0700.
	if err := os.MkdirAll(string(l), 0o711); err != nil { //nolint:gosec // see above
		return err
	}
	if err := os.Chmod(string(l), 0o711); err != nil { //nolint:gosec // see above
		return err
	}
	if err := os.MkdirAll(filepath.Join(string(l), "server"), 0o711); err != nil { //nolint:gosec // see above
		return err
	}
	for _, d := range []string{"log", "config", "run", "keys"} {
		if err := os.MkdirAll(filepath.Join(string(l), d), 0o700); err != nil {
			return err
		}
	}
	return nil
}
