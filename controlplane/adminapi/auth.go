package adminapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/freehold-db/freehold/controlplane/authority"
)

// Role says what a bearer token may do. Which role which verb needs is said in
// one place, the table of verbs.
type Role = authority.Role

// The roles, as package authority has them.
const (
	RoleViewer   = authority.Viewer
	RoleOperator = authority.Operator
	RoleAdmin    = authority.Admin
	RoleNode     = authority.Node
)

// Principal is who a credential belongs to.
type Principal = authority.Principal

// Tokens is the list of bearer tokens in a file: [{"name","role","sha256"}],
// where sha256 is the hex of the token's SHA-256. A change of the file is seen
// with the next request; a file that has become unreadable or wrong keeps the
// last good list in force, and says so in the log.
type Tokens struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	seen    stamp
	entries []tokenEntry
}

// stamp tells one version of a file from the next. A rename into place changes
// inode and time; an edit within the clock's grain changes the size or not at
// all, so that the file is read again while it is younger than a moment.
type stamp struct {
	modified time.Time
	size     int64
}

type tokenEntry struct {
	who    Principal
	digest [sha256.Size]byte
}

// OpenTokens reads the list at path. It fails on a file that is missing, is not
// such a list, names an unknown role, or gives a name or a token twice.
func OpenTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	if err := t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

// HashToken gives what the file keeps of a token.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Lookup tells who a token belongs to. It takes the same time whichever entry
// matches, and compares digests only, never the token.
func (t *Tokens) Lookup(token string) (Principal, bool) {
	digest := sha256.Sum256([]byte(token))
	t.mu.Lock()
	t.refresh()
	entries := t.entries
	t.mu.Unlock()
	var found Principal
	ok := 0
	for _, e := range entries {
		if subtle.ConstantTimeCompare(e.digest[:], digest[:]) == 1 {
			found, ok = e.who, 1
		}
	}
	return found, ok == 1
}

// Authenticate is Lookup for an API that has nothing but the file.
// Errors: authority.ErrUnknown.
func (t *Tokens) Authenticate(_ context.Context, token, _ string) (Principal, error) {
	who, ok := t.Lookup(token)
	if !ok {
		return who, authority.ErrUnknown
	}
	return who, nil
}

// settled is the age from which a file's time stamp is trusted to change with the next edit.
const settled = 2 * time.Second

func (t *Tokens) refresh() {
	info, err := os.Stat(t.path)
	if err != nil {
		t.complain(stamp{}, err)
		return
	}
	now := stamp{info.ModTime(), info.Size()}
	if now == t.seen && time.Since(now.modified) > settled {
		return
	}
	if err := t.read(); err != nil {
		t.complain(now, err)
	}
}

// complain logs once per version of the file, not once per request.
func (t *Tokens) complain(now stamp, err error) {
	if now != t.seen {
		t.log.Error("token file cannot be used, keeping the last good list", "path", t.path, "error", err)
		t.seen = now
	}
}

func (t *Tokens) read() error {
	info, err := os.Stat(t.path)
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	text, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	entries, err := parseTokens(text)
	if err != nil {
		return fmt.Errorf("token file %s: %w", t.path, err)
	}
	t.entries, t.seen = entries, stamp{info.ModTime(), info.Size()}
	return nil
}

func parseTokens(text []byte) ([]tokenEntry, error) {
	var list []struct {
		Name   string `json:"name"`
		Role   Role   `json:"role"`
		SHA256 string `json:"sha256"`
	}
	if err := json.Unmarshal(text, &list, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	digests := map[[sha256.Size]byte]bool{}
	entries := make([]tokenEntry, 0, len(list))
	for i, l := range list {
		e := tokenEntry{who: Principal{Name: l.Name, Root: l.Name, Method: authority.ByFile,
			Grants: []authority.Grant{{Role: l.Role, Where: authority.Where{All: true}}}}}
		digest, err := hex.DecodeString(l.SHA256)
		switch {
		case l.Name == "":
			return nil, fmt.Errorf("entry %d has no name", i)
		case strings.ContainsRune(l.Name, ':'):
			return nil, fmt.Errorf("entry %q: a name has no colon; names with one are those of access tokens and of people", l.Name)
		case !l.Role.Known():
			return nil, fmt.Errorf("entry %q: unknown role %q", l.Name, l.Role)
		case err != nil || len(digest) != sha256.Size:
			return nil, fmt.Errorf("entry %q: sha256 is not 64 hex digits", l.Name)
		case names[l.Name]:
			return nil, fmt.Errorf("name %q is given twice", l.Name)
		}
		copy(e.digest[:], digest)
		if digests[e.digest] {
			return nil, fmt.Errorf("entry %q: the token is already another's", l.Name)
		}
		names[l.Name], digests[e.digest] = true, true
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, errors.New("no token at all")
	}
	return entries, nil
}
