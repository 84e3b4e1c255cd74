package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// Routes edits the explicit entries of one shard's PgBouncer: a database
// listed there is served from another shard's Postgres, so that clients still
// attached after a move follow. Everything needed is connected beforehand, so
// that Set is quick inside a cutover. It is for one goroutine at a time.
type Routes struct {
	fleet   *Fleet
	on      catalog.Shard
	console *Console
	lock    *pgx.Conn // to the shard's own Postgres
}

// Routes connects to the console and to the lock that serialises changes
// across replicas. Errors: [ErrNoRoutes], catalog.ErrNotFound.
func (f *Fleet) Routes(ctx context.Context, on shardmap.ShardID) (*Routes, error) {
	s, err := f.shards.GetShard(ctx, on)
	if err != nil {
		return nil, err
	}
	if s.RoutesFile == "" {
		return nil, fmt.Errorf("shard %s: %w", on, ErrNoRoutes)
	}
	console, err := f.Console(ctx, on)
	if err != nil {
		return nil, err
	}
	lock, err := f.Admin(ctx, on, maintenance)
	if err != nil {
		console.Close()
		return nil, err
	}
	return &Routes{fleet: f, on: s, console: console, lock: lock}, nil
}

// Close gives up the connections. Entries stay.
func (r *Routes) Close() {
	r.console.Close()
	closeConn(context.Background(), r.lock)
}

// Set has the PgBouncer serve the database from to's Postgres (which may be
// the shard's own) and returns when SHOW DATABASES says so. A Pause outlasts it.
func (r *Routes) Set(ctx context.Context, database string, to shardmap.ShardID) error {
	target, err := r.fleet.shards.GetShard(ctx, to)
	if err != nil {
		return err
	}
	e := route{host: target.PostgresHost, port: target.PostgresPort}
	return r.change(ctx, database, func(entries map[string]route) bool {
		was, there := entries[database]
		entries[database] = e
		return !there || was != e
	}, func(known map[string]Entry) bool {
		got := known[database]
		return got.Host == e.host && got.Port == e.port
	})
}

// Drop takes the entry out; the wildcard serves the name again. PgBouncer
// closes the clients still attached to it. No entry is no error.
func (r *Routes) Drop(ctx context.Context, database string) error {
	return r.change(ctx, database, func(entries map[string]route) bool {
		_, there := entries[database]
		delete(entries, database)
		return there
	}, func(map[string]Entry) bool { return true })
}

// Has tells whether the file has an entry for the database.
func (r *Routes) Has(database string) (bool, error) {
	entries, err := readRoutes(r.on.RoutesFile)
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", r.on.ID, err)
	}
	_, there := entries[database]
	return there, nil
}

// Console is the connection to the console that Routes holds, for use between its calls.
func (r *Routes) Console() *Console { return r.console }

// change rewrites the file under the lock, reloads, and waits until PgBouncer
// says that it is so. It reloads in any case: the process before us may have
// died between its write and its reload.
func (r *Routes) change(ctx context.Context, database string, edit func(map[string]route) bool, done func(map[string]Entry) bool) error {
	if !shardmap.ValidDatabase(database) {
		return fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	if err := r.rewrite(ctx, func(entries map[string]route) (bool, error) { return edit(entries), nil }, done); err != nil {
		return fmt.Errorf("entry of %s: %w", database, err)
	}
	return nil
}

func (r *Routes) rewrite(ctx context.Context, edit func(map[string]route) (bool, error), done func(map[string]Entry) bool) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("routes of %s: %w", r.on.ID, err)
	}
	defer r.leave(ctx)
	entries, err := readRoutes(r.on.RoutesFile)
	if err != nil {
		return fmt.Errorf("routes of %s: %w", r.on.ID, err)
	}
	changed, err := edit(entries)
	if err != nil {
		return fmt.Errorf("routes of %s: %w", r.on.ID, err)
	}
	if changed {
		if err := r.lock.Ping(ctx); err != nil { // whoever was stopped meanwhile has lost the lock, and what it read is old
			return fmt.Errorf("routes of %s: lock lost: %w", r.on.ID, err)
		}
		if err := writeRoutes(r.on.RoutesFile, entries); err != nil {
			return fmt.Errorf("routes of %s: %w", r.on.ID, err)
		}
	}
	if err := r.console.Reload(ctx); err != nil {
		return err
	}
	var known map[string]Entry
	err = poll(ctx, func() (bool, error) {
		known, err = r.console.Databases(ctx)
		return err == nil && done(known), err
	})
	if err != nil {
		return fmt.Errorf("routes of %s: pgbouncer does not show what was written: %w", r.on.ID, err)
	}
	return nil
}

// stoppedAfter is how long a process may hold the lock without a word to
// Postgres. A replica that is stopped in the middle keeps requests waiting no longer.
const stoppedAfter = "10s"

// enter takes the lock.
func (r *Routes) enter(ctx context.Context) error {
	_, err := r.lock.Exec(ctx, "SELECT pg_advisory_lock($1), set_config('idle_session_timeout', $2, false)", int64(lockRoutes), stoppedAfter)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// leave lets go; if it can't, it closes the connection, which does as well.
func (r *Routes) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
	defer cancel()
	_, err := r.lock.Exec(ctx, "SELECT set_config('idle_session_timeout', '0', false), pg_advisory_unlock($1)", int64(lockRoutes))
	if err != nil {
		closeConn(ctx, r.lock)
	}
}

// Home tells which shard serves a database now; false: leave its entry as it
// is, for somebody is at work on it or nobody knows the database.
type Home func(ctx context.Context, database string) (shardmap.ShardID, bool, error)

// FollowAddresses mends the entries of one shard's PgBouncer that lead to an
// address which their shard no longer has, and returns how many. When all are
// right, which is nearly always, it reads the file and nothing else of the shard.
func (f *Fleet) FollowAddresses(ctx context.Context, on catalog.Shard, home Home) (int, error) {
	if on.RoutesFile == "" {
		return 0, nil
	}
	entries, err := readRoutes(on.RoutesFile)
	if err != nil {
		return 0, fmt.Errorf("routes of %s: %w", on.ID, err)
	}
	if n, err := f.mend(ctx, entries, home); n == 0 || err != nil {
		return 0, err
	}
	r, err := f.Routes(ctx, on.ID)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n := 0
	err = r.rewrite(ctx, func(entries map[string]route) (_ bool, err error) {
		n, err = f.mend(ctx, entries, home) // again, now that nobody else changes them
		return n > 0, err
	}, func(map[string]Entry) bool { return true })
	return n, err
}

// mend corrects entries in place and returns how many were wrong.
func (f *Fleet) mend(ctx context.Context, entries map[string]route, home Home) (int, error) {
	n := 0
	for database, is := range entries {
		at, ok, err := home(ctx, database)
		if err != nil {
			return n, err
		}
		if !ok {
			continue
		}
		s, err := f.shards.GetShard(ctx, at)
		if err != nil {
			return n, err
		}
		if want := (route{host: s.PostgresHost, port: s.PostgresPort}); is != want {
			entries[database] = want
			n++
		}
	}
	return n, nil
}

// SetRoute is Routes, Set and Close in one.
func (f *Fleet) SetRoute(ctx context.Context, on shardmap.ShardID, database string, to shardmap.ShardID) error {
	r, err := f.Routes(ctx, on)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Set(ctx, database, to)
}

// DropRoute is Routes, Drop and Close in one; without a routes file it does nothing.
func (f *Fleet) DropRoute(ctx context.Context, on shardmap.ShardID, database string) error {
	r, err := f.Routes(ctx, on)
	if errors.Is(err, ErrNoRoutes) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Drop(ctx, database)
}

// route is where an entry leads.
type route struct {
	host string
	port uint16
}

var routeLine = regexp.MustCompile(`^(t_[0-9a-f]{16}) = host='([^']+)' port=([0-9]{1,5}) auth_user=` + BouncerRole + `$`)

// formatRoutes writes the entries in PgBouncer's syntax, sorted, so that equal entries are equal bytes.
func formatRoutes(entries map[string]route) []byte {
	var b bytes.Buffer
	b.WriteString("; Written by the control plane; changes by hand are lost.\n")
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		fmt.Fprintf(&b, "%s = host='%s' port=%d auth_user=%s\n", name, entries[name].host, entries[name].port, BouncerRole)
	}
	return b.Bytes()
}

func parseRoutes(text []byte) (map[string]route, error) {
	entries := map[string]route{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		m := routeLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d is none of ours", i+1) // not what it says: the path is the caller's, and errors reach people
		}
		var e route
		e.host = m[2]
		if _, err := fmt.Sscanf(m[3], "%d", &e.port); err != nil {
			return nil, fmt.Errorf("line %d: port: %w", i+1, err)
		}
		entries[m[1]] = e
	}
	return entries, nil
}

func readRoutes(path string) (map[string]route, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]route{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseRoutes(text)
}

// writeRoutes replaces the file whole, with the owner and mode it had. It is
// not flushed to disk: a crash of the machine ends PgBouncer's clients too,
// and those who come back are refused at the old place by the fence.
func writeRoutes(path string, entries map[string]route) error {
	for name, e := range entries {
		if !shardmap.ValidDatabase(name) || e.host == "" || strings.ContainsAny(e.host, "'\n\r\\") {
			return fmt.Errorf("entry %q to host %q can't be written", name, e.host)
		}
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".routes-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone after the rename
	_, err = temp.Write(formatRoutes(entries))
	if err == nil {
		err = temp.Chmod(0o644) // no secret in it; PgBouncer runs under another account
	}
	if info, serr := os.Stat(path); serr == nil && err == nil {
		if own, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			err = temp.Chown(int(own.Uid), int(own.Gid))
		}
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// validHost guards what becomes part of a configuration line of PgBouncer.
func validHost(host string) bool {
	if net.ParseIP(host) != nil {
		return true
	}
	return host != "" && len(host) <= 255 && !strings.ContainsAny(host, "'\"\\ \t\r\n=;#")
}

// poll calls check until it is true or fails, with growing pauses from 1 ms to 20 ms, until ctx ends.
func poll(ctx context.Context, check func() (bool, error)) error {
	for pause := time.Millisecond; ; pause = min(pause*3/2, 4*time.Millisecond) {
		ok, err := check()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
