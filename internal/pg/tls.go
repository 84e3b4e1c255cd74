package pg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/secret"
)

// TLSMode says how far a server is trusted, in libpq's words.
type TLSMode string

const (
	// TLSDisable is plain text, for servers on this machine.
	TLSDisable TLSMode = "disable"
	// TLSRequire keeps listeners out, but not one who poses as the server.
	TLSRequire TLSMode = "require"
	// TLSVerifyFull has the server show a certificate of a known root for the host name or address it was asked for by.
	TLSVerifyFull TLSMode = "verify-full"
)

// TLS is how every link to a Postgres or PgBouncer is secured: the nodes' to
// PgBouncer, the control plane's to both, pg_dump's, and those of one shard's
// Postgres to another's. A link by unix socket needs none and has none.
type TLS struct {
	// Mode; empty: disable.
	Mode TLSMode `yaml:"mode" env:"FREEHOLD_DATABASE_TLS_MODE"`
	// CAFile holds the roots (PEM) of the servers' certificates, for verify-full.
	CAFile string `yaml:"ca_file" env:"FREEHOLD_DATABASE_TLS_CA_FILE"`
	// CertFile and KeyFile (PEM) are what we show to servers that ask who we are.
	CertFile string `yaml:"cert_file" env:"FREEHOLD_DATABASE_TLS_CERT_FILE"`
	KeyFile  string `yaml:"key_file" env:"FREEHOLD_DATABASE_TLS_KEY_FILE"`
}

// On tells whether links are secured at all.
func (t TLS) On() bool { return t.Mode != "" && t.Mode != TLSDisable }

// Validate refuses what contradicts itself; it reads no file.
func (t TLS) Validate() error {
	switch t.Mode {
	case "", TLSDisable:
		if t.CAFile+t.CertFile+t.KeyFile != "" {
			return errors.New("files are given, but mode is disable")
		}
		return nil
	case TLSRequire:
		if t.CAFile != "" {
			return errors.New("ca_file is given, but only mode verify-full verifies")
		}
	case TLSVerifyFull:
		if t.CAFile == "" {
			return errors.New("mode verify-full needs ca_file")
		}
	default:
		return fmt.Errorf("mode %q: want disable, require or verify-full", t.Mode)
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("cert_file and key_file go together")
	}
	return nil
}

// Channel opens links as its [TLS] says, with the files as they are at that
// moment: a renewed certificate is used from the next connection on. Files
// that can't be used are logged once, and those before them stay in use. A nil
// Channel is plain text. It is safe for concurrent use.
type Channel struct {
	tls TLS
	log *slog.Logger

	mu   sync.Mutex
	seen [3]stamp
	now  *tls.Config // nil: plain text
}

// stamp tells a file's versions apart.
type stamp struct {
	changed time.Time
	size    int64
}

// Open validates t and reads its files; log takes what becomes of them later.
func (t TLS) Open(log *slog.Logger) (*Channel, error) {
	c := &Channel{tls: t, log: log}
	err := t.Validate()
	if err == nil && t.On() {
		c.seen = t.stamps()
		c.now, err = t.read()
	}
	if err != nil {
		return nil, fmt.Errorf("database_tls: %w", err)
	}
	return c, nil
}

func (t TLS) stamps() (s [3]stamp) {
	for i, path := range []string{t.CAFile, t.CertFile, t.KeyFile} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

func (t TLS) read() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.Mode == TLSRequire {
		cfg.InsecureSkipVerify = true //nolint:gosec // that is what this mode says
	} else {
		text, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New(t.CAFile + " holds no certificate")
		}
	}
	if t.CertFile == "" {
		return cfg, nil
	}
	if err := private(t.KeyFile); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// private refuses a key that others may read, as libpq does: pg_dump would, in
// the middle of a move.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	open := fs.FileMode(0o077)
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Uid == 0 {
		open = 0o037 // root may let a group read it
	}
	if info.Mode().Perm()&open != 0 {
		return fmt.Errorf("%s: others may read the private key: chmod 0600", path)
	}
	return nil
}

// current is what the files say, or said when they could last be used.
func (c *Channel) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.tls.stamps()
	if seen == c.seen {
		return c.now
	}
	c.seen = seen
	fresh, err := c.tls.read()
	if err != nil {
		c.log.Error("the new TLS files for databases cannot be used, the old ones stay", "ca_file", c.tls.CAFile, "cert_file", c.tls.CertFile, "err", err)
		return c.now
	}
	c.now = fresh
	return fresh
}

// On tells whether links are secured; those to a socket directory never are.
func (c *Channel) On() bool { return c != nil && c.tls.On() }

func (c *Channel) config(host string) *tls.Config {
	if !c.On() || socket(host) {
		return nil
	}
	cfg := c.current().Clone()
	cfg.ServerName = host
	return cfg
}

func socket(host string) bool { return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") }

// Config is [Config] over the channel.
func (c *Channel) Config(host string, port uint16, database string, login secret.Login) (*pgx.ConnConfig, error) {
	cfg, err := Config(host, port, database, login)
	if err != nil {
		return nil, err
	}
	cfg.TLSConfig = c.config(host)
	return cfg, nil
}

// Connect is [Connect] over the channel.
func (c *Channel) Connect(ctx context.Context, host string, port uint16, database string, login secret.Login) (*pgx.Conn, error) {
	cfg, err := c.Config(host, port, database, login)
	if err != nil {
		return nil, err
	}
	return connect(ctx, cfg)
}

// nowhere is a path that names no file, so that libpq looks for none of its own.
const nowhere = "/nonexistent"

// Env is what has libpq's programs secure their links the same way, as
// NAME=value. The files are read by those programs, so they must be there for
// the account that runs them.
func (c *Channel) Env() []string {
	if !c.On() {
		return []string{"PGSSLMODE=" + string(TLSDisable)}
	}
	return []string{
		"PGSSLMODE=" + string(c.tls.Mode), "PGSSLROOTCERT=" + or(c.tls.CAFile, nowhere),
		"PGSSLCERT=" + or(c.tls.CertFile, nowhere), "PGSSLKEY=" + or(c.tls.KeyFile, nowhere),
		"PGSSLMINPROTOCOLVERSION=TLSv1.2", "PGGSSENCMODE=disable",
	}
}

// The files that a shard's Postgres needs in a directory of its own machine to
// connect to another shard's: the roots, and what it shows if it is asked who
// it is. They are named as Kubernetes and cert-manager name them.
const (
	ServerCAFile   = "ca.crt"
	ServerCertFile = "tls.crt"
	ServerKeyFile  = "tls.key"
)

// ErrNoServerFiles: a server that is to verify another was given no directory with the roots.
var ErrNoServerFiles = errors.New("the server has no directory of TLS files")

// Conninfo is how a Postgres server secures a link of its own to another's, as
// keywords of libpq. dir is the directory, on that server's machine, of
// [ServerCAFile] and its like. Errors: [ErrNoServerFiles].
func (c *Channel) Conninfo(dir string) ([][2]string, error) {
	if !c.On() {
		return [][2]string{{"sslmode", string(TLSDisable)}}, nil
	}
	root, cert, key := nowhere, nowhere, nowhere
	if dir != "" {
		root, cert, key = filepath.Join(dir, ServerCAFile), filepath.Join(dir, ServerCertFile), filepath.Join(dir, ServerKeyFile)
	}
	if c.tls.Mode == TLSRequire {
		root = nowhere // libpq would verify by it, but not the name
	} else if dir == "" {
		return nil, ErrNoServerFiles
	}
	return [][2]string{
		{"sslmode", string(c.tls.Mode)}, {"sslrootcert", root}, {"sslcert", cert}, {"sslkey", key},
		{"ssl_min_protocol_version", "TLSv1.2"}, {"gssencmode", "disable"},
	}, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
