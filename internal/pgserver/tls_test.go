package pgserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/internal/secret"
)

func authority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.Open(t.TempDir())
	require.NoError(t, err)
	return a
}

func issued(t *testing.T, a *pki.Authority, name string) *TLS {
	t.Helper()
	server, err := a.Server(name)
	require.NoError(t, err)
	client, err := a.Client("client")
	require.NoError(t, err)
	return &TLS{CA: server.Root, Cert: server.Certificate, Key: server.Key, ClientCert: client.Certificate, ClientKey: client.Key}
}

func opened(t *testing.T, security pg.TLS) *pg.Channel {
	t.Helper()
	c, err := security.Open(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return c
}

// shown is the certificate that a server shows after a SSLRequest, spoken in no
// version newer than max; no client certificate is sent.
func shown(t *testing.T, port int, max uint16) (*x509.Certificate, error) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // bounded by the deadline
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	require.NoError(t, binary.Write(conn, binary.BigEndian, []uint32{8, 80877103}))
	answer := make([]byte, 1)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, "S", string(answer))
	var leaf *x509.Certificate
	client := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: max, InsecureSkipVerify: true, //nolint:gosec // it is looked at below
		VerifyConnection: func(s tls.ConnectionState) error { leaf = s.PeerCertificates[0]; return nil }})
	return leaf, client.Handshake()
}

// eventually polls for a minute, in the test's own goroutine.
func eventually(t *testing.T, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !check(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not in time")
	}
}

func secureServer(t *testing.T, files *TLS) *Postgres {
	t.Helper()
	p := newServer(t, Config{Dir: filepath.Join(enterable(t), "pg"), TLS: files,
		HBA: HBA{Platform: []string{"freehold_admin", "freehold_bouncer"}, TLS: true}.Lines()})
	require.NoError(t, p.Start(t.Context()))
	return p
}

func secureBouncer(t *testing.T, p *Postgres, files *TLS) *Bouncer {
	t.Helper()
	dir := filepath.Join(enterable(t), "b")
	b, err := NewBouncer(BouncerConfig{Dir: dir, BackendHost: p.Host(), BackendPort: p.Port(), TLS: files,
		Auth: secret.Login{Password: "auth"}, Admin: secret.Login{Password: "admin"},
		Known:      []secret.Login{{User: p.Superuser(), Password: p.cfg.Password}},
		Settings:   map[string]string{"query_wait_timeout": "1", "logfile": filepath.Join(dir, "says.log")}, // who can't be served is told soon
		FastUnsafe: true, DieWithParent: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Destroy(context.Background())) })
	require.NoError(t, b.Start(t.Context()))
	return b
}

// Both servers speak TLS alone, to those they know; and are believed only with
// a certificate of the right root for the name they were asked for by.
func TestBothSidesAreVerified(t *testing.T) {
	t.Parallel()
	ours, theirs := authority(t), authority(t)
	files, foreign := issued(t, ours, "server"), issued(t, theirs, "server")
	p := secureServer(t, files)
	b := secureBouncer(t, p, files)
	login := secret.Login{User: p.Superuser(), Password: p.cfg.Password}
	good := pg.TLS{Mode: pg.TLSVerifyFull, CAFile: files.CA, CertFile: files.ClientCert, KeyFile: files.ClientKey}
	anonymous, misled, stranger, lax := good, good, good, good
	anonymous.CertFile, anonymous.KeyFile = "", ""
	misled.CAFile = foreign.CA
	stranger.CertFile, stranger.KeyFile = foreign.ClientCert, foreign.ClientKey
	lax.Mode, lax.CAFile = pg.TLSRequire, ""

	for name, port := range map[string]int{"postgres": p.Port(), "pgbouncer": b.Port()} {
		connect := func(c *pg.Channel, host string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, err := c.Connect(ctx, host, uint16(port), "postgres", login) //nolint:gosec // a port
			if err != nil {
				require.NotContains(t, err.Error(), login.Password)
				return err
			}
			defer conn.Close(ctx) //nolint:errcheck // a test
			// What the server knows of the link that ends at it: PgBouncer's own, where it is between.
			var version, client string
			require.NoError(t, conn.QueryRow(ctx, "SELECT version, coalesce(client_dn, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&version, &client))
			require.Equal(t, "TLSv1.3", version)
			require.Contains(t, client, map[string]string{"postgres": "CN=client", "pgbouncer": "CN=server"}[name])
			return nil
		}
		require.NoError(t, connect(opened(t, good), "127.0.0.1"), name)
		require.NoError(t, connect(opened(t, good), "localhost"), name)
		require.NoError(t, connect(opened(t, lax), "127.0.0.1"), name)
		require.Error(t, connect(nil, "127.0.0.1"), "%s takes plain text", name)
		require.Error(t, connect(opened(t, anonymous), "127.0.0.1"), "%s takes one without a certificate", name)
		require.Error(t, connect(opened(t, stranger), "127.0.0.1"), "%s takes another root's certificate", name)
		require.ErrorContains(t, connect(opened(t, misled), "127.0.0.1"), "certificate", name)
		for _, old := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
			_, err := shown(t, port, old)
			require.Error(t, err, "%s speaks %s", name, tls.VersionName(old))
		}
	}

	// A name that the certificate is not for. The server is the same.
	cfg, err := opened(t, good).Config("elsewhere.example", uint16(p.Port()), "postgres", login) //nolint:gosec // a port
	require.NoError(t, err)
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	require.ErrorContains(t, err, "elsewhere.example")
}

// PgBouncer asks for a server by the host of its route, and believes no other's certificate.
func TestPgBouncerVerifiesItsServers(t *testing.T) {
	t.Parallel()
	a := authority(t)
	files := issued(t, a, "server")
	p := secureServer(t, files)
	b := secureBouncer(t, p, files)
	login := secret.Login{User: p.Superuser(), Password: p.cfg.Password}
	foreign := issued(t, authority(t), "server")
	other := newServer(t, Config{Dir: filepath.Join(enterable(t), "other"), TLS: foreign, Password: p.cfg.Password,
		HBA: HBA{Platform: []string{"freehold_admin"}, TLS: true}.Lines()})
	require.NoError(t, other.Start(t.Context()))
	routes := "right = host=localhost dbname=postgres port=" + strconv.Itoa(p.Port()) + "\n" +
		"wrong = host=127.0.0.1 dbname=postgres port=" + strconv.Itoa(other.Port()) + "\n"
	require.NoError(t, os.WriteFile(b.RoutesFile(), []byte(routes), 0o644)) //nolint:gosec // no secret
	console(t, b, "RELOAD")
	require.Equal(t, "1", query(t, b.DSN(login, "right"), "SELECT 1::text"))

	// PgBouncer tells a client of the last try, and may be at the next one only then.
	refused := func(why string) {
		t.Helper()
		eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, err := pgx.Connect(ctx, b.DSN(login, "wrong"))
			if err == nil {
				_, err = conn.Exec(ctx, "SELECT 1")
				_ = conn.Close(ctx)
			}
			require.Error(t, err)
			require.NoError(t, ctx.Err(), "PgBouncer gives no answer")
			says, err := os.ReadFile(b.cfg.Settings["logfile"])
			require.NoError(t, err)
			return strings.Contains(string(says), why)
		})
	}
	refused("certificate verify failed")

	misnamed, err := a.Issue(pki.Request{Dir: t.TempDir(), Name: "misnamed", Hosts: []string{"elsewhere.example"}})
	require.NoError(t, err)
	replace(t, foreign, misnamed)
	require.NoError(t, other.Renew())
	eventually(t, func() bool {
		leaf, _ := shown(t, other.Port(), tls.VersionTLS12) // the handshake fails without a certificate of ours, but after the server's
		return leaf != nil && leaf.Subject.CommonName == "misnamed"
	})
	refused("not present in server certificate")
}

// replace has a server's files be others.
func replace(t *testing.T, files *TLS, by pki.Pair) {
	t.Helper()
	for from, to := range map[string]string{by.Certificate: files.Cert, by.Key: files.Key} {
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, text, 0o600))
	}
}

// Renewed files are shown to whoever comes next; nobody is cut off.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	a := authority(t)
	files := issued(t, a, "server")
	p := secureServer(t, files)
	b := secureBouncer(t, p, files)
	login := secret.Login{User: p.Superuser(), Password: p.cfg.Password}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	direct, err := pgx.Connect(ctx, p.DSN("postgres"))
	require.NoError(t, err)
	defer direct.Close(ctx) //nolint:errcheck // a test
	bounced, err := pgx.Connect(ctx, b.DSN(login, "postgres"))
	require.NoError(t, err)
	defer bounced.Close(ctx) //nolint:errcheck // a test
	tx, err := bounced.Begin(ctx)
	require.NoError(t, err)

	next, err := a.Issue(pki.Request{Dir: t.TempDir(), Name: "next", Role: "renewed", Hosts: pki.Loopback()})
	require.NoError(t, err)
	replace(t, files, next)
	require.NoError(t, p.Renew())
	require.NoError(t, b.Renew())
	for _, port := range []int{p.Port(), b.Port()} {
		eventually(t, func() bool {
			leaf, _ := shown(t, port, tls.VersionTLS12)
			return leaf != nil && leaf.Subject.CommonName == "renewed"
		})
	}
	_, err = tx.Exec(ctx, "SELECT 1")
	require.NoError(t, err, "a transaction that was under way")
	require.NoError(t, tx.Commit(ctx))
	for _, conn := range []*pgx.Conn{direct, bounced} {
		_, err = conn.Exec(ctx, "SELECT 1")
		require.NoError(t, err, "a session from before")
	}
	// PgBouncer shows the new one to Postgres, too, from the next connection on.
	console(t, b, "RECONNECT") // newer versions make none anew by themselves
	eventually(t, func() bool {
		var client string
		require.NoError(t, bounced.QueryRow(ctx, "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&client))
		return strings.Contains(client, "CN=renewed")
	})

	key, err := os.Stat(filepath.Join(p.TLSDir(), pg.ServerKeyFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), key.Mode().Perm())
}
