package schema

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/freehold-db/freehold/internal/schemachange"
)

// Tools runs pg_dump and pg_restore of one directory of programs.
type Tools struct{ BinDir string }

// Archive is a dumped schema in a private temporary directory, with its table
// of contents. Close removes it.
type Archive struct {
	tools Tools
	dir   string
	// Pre and Post are the entries to restore before and after the data, in
	// pg_dump's order.
	Pre, Post []Entry
}

// Entry is one object in an archive.
type Entry struct {
	ID       int    // within the archive
	Class    uint32 // OID of the source's system catalog the object is in; 0: none
	OID      uint32 // the object's OID at the source
	Describe string // "INDEX public orders_idx owner": for people
}

// maxStderr bounds what of a tool's complaint ends up in an error.
const maxStderr = 4 << 10

// Dump reads the schema as it is in the exported snapshot (empty: as of now).
// env is the libpq environment of the source; it holds the password and is
// given to pg_dump alone. The platform's own schema, publications and
// subscriptions stay out. It waits at most lockWait for locks.
func (t Tools) Dump(ctx context.Context, env []string, snapshot string, lockWait time.Duration) (*Archive, error) {
	dir, err := os.MkdirTemp("", "freehold-schema-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("dump schema: %w", err)
	}
	a := &Archive{tools: t, dir: dir}
	args := []string{"--format=custom", "--schema-only", "--no-publications", "--no-subscriptions", "--exclude-schema=freehold",
		"--lock-wait-timeout=" + strconv.FormatInt(lockWait.Milliseconds(), 10), "--compress=0", "--no-password", "--file=" + a.file()}
	if snapshot != "" {
		args = append(args, "--snapshot="+snapshot)
	}
	if _, err = t.run(ctx, env, "pg_dump", args...); err == nil {
		err = a.contents(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dump schema: %w", err), a.Close())
	}
	return a, nil
}

// Close removes the archive. Closing twice is no error.
func (a *Archive) Close() error { return os.RemoveAll(a.dir) }

func (a *Archive) file() string { return filepath.Join(a.dir, "schema.dump") }

func (a *Archive) contents(ctx context.Context) error {
	for section, into := range map[string]*[]Entry{"pre-data": &a.Pre, "post-data": &a.Post} {
		out, err := a.tools.run(ctx, nil, "pg_restore", "--list", "--section="+section, a.file())
		if err != nil {
			return err
		}
		entries, err := parseTOC(out)
		if err != nil {
			return err
		}
		*into = entries
	}
	return nil
}

// parseTOC reads `pg_restore --list`: lines "id; class oid DESCRIPTION", and
// comments beginning with a semicolon. Names in it are for people only;
// nothing is decided by them but what a tenant can't make: privileges in
// pg_catalog and the platform's event triggers, which the target's template has.
func parseTOC(list []byte) ([]Entry, error) {
	var entries []Entry
	lines := bufio.NewScanner(bytes.NewReader(list))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == ';' {
			continue
		}
		id, rest, ok := strings.Cut(line, "; ")
		f := strings.SplitN(rest, " ", 3)
		if !ok || len(f) != 3 {
			return nil, fmt.Errorf("pg_restore --list: unexpected line %q", line)
		}
		n, err1 := strconv.Atoi(id)
		class, err2 := strconv.ParseUint(f[0], 10, 32)
		oid, err3 := strconv.ParseUint(f[1], 10, 32)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("pg_restore --list: unexpected line %q: %w", line, err)
		}
		if strings.HasPrefix(f[2], "ACL pg_catalog ") || strings.HasPrefix(f[2], "EVENT TRIGGER - "+schemachange.TriggerPrefix) ||
			strings.HasPrefix(f[2], "COMMENT - EVENT TRIGGER "+schemachange.TriggerPrefix) {
			continue
		}
		entries = append(entries, Entry{ID: n, Class: uint32(class), OID: uint32(oid), Describe: f[2]})
	}
	return entries, lines.Err()
}

// OneProcessor are settings by which what a session makes takes no more than one.
var OneProcessor = []string{"max_parallel_maintenance_workers=0", "max_parallel_workers_per_gather=0"}

// Restore makes the given entries, in their order. With jobs > 1 entries that
// don't depend on each other are made at the same time; otherwise those that
// follow each other by one login are made in one transaction.
func (a *Archive) Restore(ctx context.Context, as Logins, entries []Entry, jobs int) error {
	for _, part := range as.stretches(entries) {
		if err := a.restoreAs(ctx, part.env, part.entries, jobs); err != nil {
			return err
		}
	}
	return nil
}

func (a *Archive) restoreAs(ctx context.Context, env []string, entries []Entry, jobs int) error {
	if jobs > 1 {
		alone, rest := untilAttached(entries)
		if err := a.restore(ctx, env, alone, 1); err != nil {
			return err
		}
		entries = rest
	}
	return a.restore(ctx, env, entries, jobs)
}

// untilAttached parts off what must not be made at the same time as anything
// else: all up to the last index that is attached to its parent's. A parent's
// index of several levels becomes valid with the last one attached, and Postgres
// misses that if two sessions attach at once: it would stay invalid for good.
func untilAttached(entries []Entry) (alone, rest []Entry) {
	for i := len(entries) - 1; i >= 0; i-- {
		if strings.HasPrefix(entries[i].Describe, "INDEX ATTACH ") {
			return entries[:i+1], entries[i+1:]
		}
	}
	return nil, entries
}

func (a *Archive) restore(ctx context.Context, env []string, entries []Entry, jobs int) error {
	if len(entries) == 0 {
		return nil
	}
	var list strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&list, "%d;\n", e.ID)
	}
	f, err := os.CreateTemp(a.dir, "list-")
	if err != nil {
		return fmt.Errorf("restore schema: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // Close removes the directory
	_, err = f.WriteString(list.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("restore schema: %w", err)
	}
	args := []string{"--exit-on-error", "--no-password", "--use-list=" + f.Name(), "--dbname=" + value(env, "PGDATABASE")}
	if jobs > 1 && len(entries) > 1 {
		args = append(args, "--jobs="+strconv.Itoa(jobs))
	} else if len(entries) <= oneTransaction {
		args = append(args, "--single-transaction")
	}
	if _, err := a.tools.run(ctx, env, "pg_restore", append(args, a.file())...); err != nil {
		return fmt.Errorf("restore schema: %w", err)
	}
	return nil
}

// oneTransaction is how many objects are made in one transaction at most: it
// holds a lock on each, and the server's lock table is bounded.
const oneTransaction = 2000

// value finds a variable in an environment.
func value(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

func (t Tools) run(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(t.BinDir, program), args...)
	cmd.Env = append([]string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")}, env...)
	cmd.WaitDelay = 2 * time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		text := strings.TrimSpace(complaint.String())
		if len(text) > maxStderr {
			text = text[:maxStderr] + "…"
		}
		return nil, fmt.Errorf("%s: %w: %s", program, err, text)
	}
	return out.Bytes(), nil
}
