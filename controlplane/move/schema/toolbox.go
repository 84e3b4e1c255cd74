package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Toolbox holds the tools of one major version or more, and knows which fit.
// It is safe for concurrent use.
type Toolbox struct {
	dirs []string
	mu   sync.Mutex
	// found are the tools whose version was asked for, by directory.
	found map[string]versioned
}

type versioned struct {
	Tools
	major int
}

// NewToolbox holds the tools of these directories, each of which has pg_dump and pg_restore.
func NewToolbox(dirs ...string) *Toolbox { return &Toolbox{dirs: dirs, found: map[string]versioned{}} }

// ErrNoTools: none of the tools can carry a schema between two servers.
var ErrNoTools = errors.New("no pg_dump fits")

// For picks the tools that carry a schema from a server of one major version
// to one of another. Errors: [ErrNoTools], with the remedy.
func (b *Toolbox) For(ctx context.Context, source, target int) (Tools, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var have []versioned
	for _, dir := range b.dirs {
		v, ok := b.found[dir]
		if !ok {
			major, err := Tools{dir}.major(ctx)
			if err != nil {
				return Tools{}, err
			}
			v = versioned{Tools{dir}, major}
			b.found[dir] = v
		}
		have = append(have, v)
	}
	best, ok := pick(have, source, target)
	if ok {
		return best.Tools, nil
	}
	var versions []string
	for _, v := range have {
		versions = append(versions, strconv.Itoa(v.major))
	}
	return Tools{}, fmt.Errorf("%w a source at Postgres %d and a target at %d; the control plane has that of %s: install the client programs of Postgres %d there (postgresql-client-%d), or name their directory in pg_bin_dir",
		ErrNoTools, source, target, strings.Join(versions, ", "), target, target)
}

// pick prefers what writes the target's own words, as Postgres advises for
// upgrades. pg_dump refuses a server newer than itself; what a newer pg_restore
// says may be unknown to the target, and from 17 on always is to one before it.
func pick(have []versioned, source, target int) (versioned, bool) {
	have = slices.DeleteFunc(slices.Clone(have), func(v versioned) bool {
		return v.major < source || v.major >= 17 && target < 17
	})
	if len(have) == 0 {
		return versioned{}, false
	}
	return slices.MinFunc(have, func(a, b versioned) int {
		return cmp.Or(cmp.Compare(max(0, a.major-target), max(0, b.major-target)), cmp.Compare(b.major, a.major))
	}), true
}

// major asks pg_dump for its version.
func (t Tools) major(ctx context.Context) (int, error) {
	out, err := t.run(ctx, nil, "pg_dump", "--version")
	if err != nil {
		return 0, err
	}
	_, version, _ := strings.Cut(string(out), ") ") // pg_dump (PostgreSQL) 15.18 (Debian …)
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(version[:max(0, end)])
	if err != nil {
		return 0, fmt.Errorf("%s/pg_dump --version says %q", t.BinDir, strings.TrimSpace(string(out)))
	}
	return n, nil
}
