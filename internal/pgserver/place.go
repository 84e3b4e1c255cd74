package pgserver

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// socketPathMax is what fits into sockaddr_un on every system we run on, minus
// the longest name Postgres makes in a socket directory (.s.PGSQL.65535.lock).
const socketPathMax = 103 - len("/.s.PGSQL.65535.lock")

// account is the unprivileged user that server processes run as. The zero
// account means "as ourselves".
type account struct {
	uid, gid int
	switched bool
}

// serverAccount picks the account: ourselves, unless we are root. Postgres and
// PgBouncer refuse to run as root; then it is postgres if there is one, else nobody.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, fmt.Errorf("account %s: %w", name, err)
		}
		return account{uid: uid, gid: gid, switched: true}, nil
	}
	return account{}, errors.New("we are root, Postgres refuses to run as root, and there is neither a user postgres nor nobody")
}

// own hands a file or directory to the account.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// canEnter tells whether the account can reach dir: it may search dir's
// parents. Ownership and mode bits decide, as they do without ACLs.
func (a account) canEnter(dir string) bool {
	if !a.switched {
		return true
	}
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		st, err := os.Stat(d)
		if err != nil {
			return false
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		mode := st.Mode().Perm()
		switch {
		case int(sys.Uid) == a.uid:
			ok = mode&0o100 != 0
		case int(sys.Gid) == a.gid:
			ok = mode&0o010 != 0
		default:
			ok = mode&0o001 != 0
		}
		if !ok {
			return false
		}
		if d == filepath.Dir(d) {
			return true
		}
	}
}

// locationFile, in the directory a caller named, says where the state really is.
const locationFile = "location"

// place is where one server keeps its state: the directory the caller named,
// or, when the server's account cannot reach that one, a private directory
// below /var/tmp that is recorded in it.
type place struct {
	named   string // as the caller gave it
	dir     string // where the state is; owned by the account, mode 0700
	sockets string // short enough for unix sockets; owned by the account
	acct    account
}

func newPlace(named string) (place, error) {
	named, err := filepath.Abs(named)
	if err != nil {
		return place{}, err
	}
	acct, err := serverAccount()
	if err != nil {
		return place{}, err
	}
	if err := os.MkdirAll(named, 0o700); err != nil {
		return place{}, err
	}
	p := place{named: named, acct: acct}
	if p.dir, err = p.resolve(); err != nil {
		return place{}, fmt.Errorf("state directory %s: %w", named, err)
	}
	p.sockets = p.dir
	if len(p.sockets) > socketPathMax {
		sum := sha256.Sum256([]byte(p.dir))
		p.sockets = filepath.Join("/tmp", fmt.Sprintf("fh-%d-%s", acct.uid, hex.EncodeToString(sum[:6])))
	}
	return p, nil
}

// ErrStateGone: the state was kept outside the named directory and is no
// longer there. Removing the named directory starts afresh.
var ErrStateGone = errors.New("the state of this server is gone")

func (p place) resolve() (string, error) {
	real, err := filepath.EvalSymlinks(p.named)
	if err != nil {
		return "", err
	}
	record := filepath.Join(real, locationFile)
	b, err := os.ReadFile(record)
	if err == nil {
		dir := strings.TrimSpace(string(b))
		if err := p.mine(dir); err != nil {
			return "", fmt.Errorf("%w (it was at %s): %w", ErrStateGone, dir, err)
		}
		return dir, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if p.acct.canEnter(real) {
		if err := p.acct.own(real); err != nil {
			return "", err
		}
		return real, os.Chmod(real, 0o700) //nolint:gosec // a directory
	}
	dir, err := os.MkdirTemp("/var/tmp", "freehold-")
	if err != nil {
		return "", err
	}
	if err := p.acct.own(dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(record, []byte(dir+"\n"), 0o600)
}

// mine checks that dir is a directory of our account and nobody else's, so
// that no other user of the machine can slip one under us.
func (p place) mine(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(sys.Uid) != p.acct.uid || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a private directory of user %d", dir, p.acct.uid)
	}
	return nil
}

// prepareSockets makes the socket directory; /tmp may have been emptied since last time.
func (p place) prepareSockets() error {
	if p.sockets == p.dir {
		return nil
	}
	err := os.Mkdir(p.sockets, 0o700)
	if err == nil {
		return p.acct.own(p.sockets)
	}
	if errors.Is(err, fs.ErrExist) {
		return p.mine(p.sockets)
	}
	return err
}

// write replaces a file of the server with mode 0600, readable by its account.
func (p place) write(name, content string) error {
	path := filepath.Join(p.dir, name)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		return err
	}
	if err := p.acct.own(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// destroy removes everything this place kept, wherever it was.
func (p place) destroy() error {
	err := os.RemoveAll(p.dir)
	if p.sockets != p.dir {
		err = errors.Join(err, os.RemoveAll(p.sockets))
	}
	return errors.Join(err, os.RemoveAll(p.named))
}

// Remove removes the state kept for a server in dir, wherever it really is.
// The server must not run; see [EvictPostgres] and [EvictBouncer].
func Remove(dir string) error {
	p, err := newPlace(dir)
	if errors.Is(err, ErrStateGone) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	return p.destroy()
}
