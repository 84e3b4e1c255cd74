package clienttls_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/pki"
)

// serve tells whom each client's certificate names.
func serve(t *testing.T, a *pki.Authority) (address string, seen <-chan string) {
	t.Helper()
	p, err := a.Server("server")
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	require.NoError(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	names := make(chan string, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := conn.(*tls.Conn)
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if c.Handshake() == nil { //nolint:noctx // a test's, with a deadline
				name := ""
				if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
					name = certs[0].Subject.CommonName
				}
				names <- name
			}
			_ = c.Close()
		}
	}()
	return l.Addr().String(), names
}

func dial(address string, cfg *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", address, cfg) //nolint:noctx // a test's, with a timeout
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	a, err := pki.Open(t.TempDir())
	require.NoError(t, err)
	address, seen := serve(t, a)
	dir := t.TempDir()
	p, err := a.Issue(pki.Request{Dir: dir, Name: "client", Role: "first"})
	require.NoError(t, err)
	cfg, err := clienttls.Load(clienttls.Files{CA: p.Root, Certificate: p.Certificate, Key: p.Key})
	require.NoError(t, err)
	require.NoError(t, dial(address, cfg))
	require.Equal(t, "first", <-seen)

	later := func(n int) {
		at := time.Now().Add(time.Duration(n) * time.Hour) // however coarse the file system's clock is
		require.NoError(t, os.Chtimes(p.Certificate, at, at))
	}
	_, err = a.Issue(pki.Request{Dir: dir, Name: "client", Role: "second"})
	require.NoError(t, err)
	later(1)
	require.NoError(t, dial(address, cfg))
	require.Equal(t, "second", <-seen)
	require.NoError(t, os.WriteFile(p.Certificate, []byte("nonsense"), 0o600))
	later(2)
	require.NoError(t, dial(address, cfg))
	require.Equal(t, "second", <-seen, "the old one stays")

	none, err := clienttls.Load(clienttls.Files{CA: p.Root, System: true})
	require.NoError(t, err)
	require.NoError(t, dial(address, none))
	require.Empty(t, <-seen)
	system, err := clienttls.Load(clienttls.Files{})
	require.NoError(t, err)
	require.Error(t, dial(address, system), "the system knows nothing of this root")
}

func TestWhatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := pki.Open(dir)
	require.NoError(t, err)
	p, err := a.Client("c")
	require.NoError(t, err)
	for _, bad := range []clienttls.Files{
		{CA: filepath.Join(dir, "gone")}, {CA: p.Key}, {Certificate: p.Certificate}, {Key: p.Key}, {Certificate: p.Key, Key: p.Certificate},
	} {
		_, err := clienttls.Load(bad)
		require.Error(t, err)
	}
}
