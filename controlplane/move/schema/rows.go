package schema

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// State changes with the schema ([Fingerprint]) and with what a snapshot does
// not hide beside: a TRUNCATE, or a rewrite of a table.
func State(ctx context.Context, q Querier) (state string, err error) {
	err = q.QueryRow(ctx, `SELECT (`+fingerprintSQL+`) || ' ' || (
		SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(c.oid::text || '/' || c.relfilenode::text, ',' ORDER BY c.oid), ''))
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname <> 'freehold')`).Scan(&state)
	if err != nil {
		return "", fmt.Errorf("state of the schema: %w", err)
	}
	return state, nil
}

// DumpRows writes the rows that the exported snapshot sees, and where the
// sequences stand, to w as pg_dump's archive; the schema is not in it. env and
// lockWait are as for [Tools.Dump]. Changes of the schema wait until it is done.
func (t Tools) DumpRows(ctx context.Context, env []string, snapshot string, lockWait time.Duration, w io.Writer) error {
	err := t.pipe(ctx, env, nil, w, "pg_dump", "--format=custom", "--section=data", "--exclude-schema=freehold", "--snapshot="+snapshot,
		"--lock-wait-timeout="+strconv.FormatInt(lockWait.Milliseconds(), 10), "--compress=1", "--no-password")
	if err != nil {
		return fmt.Errorf("dump rows: %w", err)
	}
	return nil
}

// RestoreRows fills the tables of the database that env describes with what
// [Tools.DumpRows] wrote. It leaves part of it behind when it fails.
func (t Tools) RestoreRows(ctx context.Context, env []string, r io.Reader) error {
	err := t.pipe(ctx, env, r, nil, "pg_restore", "--exit-on-error", "--no-password", "--no-owner", "--no-privileges", "--section=data", "--dbname="+value(env, "PGDATABASE"))
	if err != nil {
		return fmt.Errorf("restore rows: %w", err)
	}
	return nil
}

// Load takes over an archive that [Tools.Dump] made elsewhere.
func (t Tools) Load(ctx context.Context, r io.Reader) (*Archive, error) {
	dir, err := os.MkdirTemp("", "freehold-schema-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("load schema: %w", err)
	}
	a := &Archive{tools: t, dir: dir}
	if err := a.load(ctx, r); err != nil {
		return nil, errors.Join(fmt.Errorf("load schema: %w", err), a.Close())
	}
	return a, nil
}

func (a *Archive) load(ctx context.Context, r io.Reader) error {
	f, err := os.OpenFile(a.file(), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return a.contents(ctx)
}

// Open opens the archive's file, for who carries it elsewhere.
func (a *Archive) Open() (*os.File, error) { return os.Open(a.file()) }

// pipe runs a program between a reader and a writer, either of which may be nil.
func (t Tools) pipe(ctx context.Context, env []string, in io.Reader, out io.Writer, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(t.BinDir, program), args...)
	cmd.Env = append([]string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")}, env...)
	cmd.WaitDelay = 2 * time.Second
	said := &complaint{}
	broken := &first{}
	cmd.Stderr = said
	if in != nil {
		cmd.Stdin = noting{r: in, f: broken}
	}
	if out != nil {
		cmd.Stdout = noting{w: out, f: broken}
	}
	err := cmd.Run()
	switch cause := broken.get(); {
	case cause != nil: // what the program says then is that its pipe broke, or nothing
		return cause
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(said.text.String()))
}

// complaint keeps the beginning of what a program says.
type complaint struct{ text bytes.Buffer }

func (c *complaint) Write(p []byte) (int, error) {
	_, _ = c.text.Write(p[:min(len(p), max(0, maxStderr-c.text.Len()))]) // a buffer never fails
	return len(p), nil
}

// first keeps the first error at our end of a pipe.
type first struct {
	mu  sync.Mutex
	err error
}

func (f *first) note(n int, err error) (int, error) {
	if err != nil && !errors.Is(err, io.EOF) {
		f.mu.Lock()
		f.err = cmp.Or(f.err, err)
		f.mu.Unlock()
	}
	return n, err
}

func (f *first) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

type noting struct {
	r io.Reader
	w io.Writer
	f *first
}

func (o noting) Read(p []byte) (int, error)  { return o.f.note(o.r.Read(p)) }
func (o noting) Write(p []byte) (int, error) { return o.f.note(o.w.Write(p)) }
