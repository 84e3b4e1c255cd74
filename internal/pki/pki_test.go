package pki

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}

func load(t *testing.T, p Pair) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	require.NoError(t, err)
	return pair
}

// shake is a handshake of both sides over a pipe.
func shake(server, client *tls.Config) (role string, err error) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, c := tls.Server(ours, server), tls.Client(theirs, client)
	done := make(chan error, 1)
	go func() {
		defer ours.Close() //nolint:errcheck // a pipe
		err := s.HandshakeContext(ctx)
		if err == nil {
			_, err = io.WriteString(s, "x")
		}
		done <- err
	}()
	err = c.HandshakeContext(ctx)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1)) // TLS 1.3: the server judges the client after our handshake
	}
	_ = theirs.Close()
	if served := <-done; err == nil {
		err = served
	}
	if certs := s.ConnectionState().PeerCertificates; len(certs) > 0 {
		role = certs[0].Subject.CommonName
	}
	return role, err
}

func TestServersAndClientsVerifyEachOther(t *testing.T) {
	t.Parallel()
	a, err := Open(filepath.Join(t.TempDir(), "pki"))
	require.NoError(t, err)
	stranger, err := Open(t.TempDir())
	require.NoError(t, err)
	server, err := a.Server("nats")
	require.NoError(t, err)
	client, err := a.Client("node-1")
	require.NoError(t, err)
	foreign, err := stranger.Client("node-1")
	require.NoError(t, err)

	serve := &tls.Config{Certificates: []tls.Certificate{load(t, server)}, ClientCAs: a.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	with := func(p Pair, host string) *tls.Config {
		return &tls.Config{RootCAs: a.Pool(), ServerName: host, Certificates: []tls.Certificate{load(t, p)}}
	}
	for _, host := range Loopback() {
		role, err := shake(serve, with(client, host))
		require.NoError(t, err, host)
		require.Equal(t, "node-1", role)
	}
	_, err = shake(serve, with(client, "example.com"))
	require.ErrorContains(t, err, "example.com")
	_, err = shake(serve, with(foreign, "localhost"))
	require.Error(t, err, "another authority's")
	_, err = shake(serve, &tls.Config{RootCAs: stranger.Pool(), ServerName: "localhost"})
	require.Error(t, err)
	asServer := serve.Clone()
	asServer.Certificates = []tls.Certificate{load(t, client)}
	_, err = shake(asServer, with(client, "localhost"))
	require.Error(t, err, "a client's certificate serves nobody")
}

func TestFilesArePrivateAndKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := Open(dir)
	require.NoError(t, err)
	p, err := a.Server("cp")
	require.NoError(t, err)
	elsewhere := t.TempDir()
	var owned []string
	q, err := a.Issue(Request{Dir: elsewhere, Name: "server", Hosts: []string{"127.0.0.1"}, Own: func(path string) error {
		owned = append(owned, filepath.Dir(path))
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, []string{elsewhere, elsewhere}, owned)
	for _, file := range []string{p.Certificate, p.Key, p.Root, q.Certificate, q.Key, filepath.Join(dir, "ca.pem")} {
		st, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), st.Mode().Perm(), file)
	}
	require.NotContains(t, read(t, p.Root), "PRIVATE KEY")
	cert, key, root := read(t, p.Certificate), read(t, p.Key), read(t, p.Root)

	again, err := Open(dir)
	require.NoError(t, err)
	_, err = again.Server("cp")
	require.NoError(t, err)
	require.Equal(t, cert, read(t, p.Certificate))
	require.Equal(t, key, read(t, p.Key))
	require.Equal(t, root, read(t, p.Root))

	_, err = again.Issue(Request{Name: "cp", Role: "cp", Hosts: []string{"localhost"}})
	require.NoError(t, err)
	require.NotEqual(t, cert, read(t, p.Certificate), "for other hosts")
	require.Equal(t, key, read(t, p.Key))

	for _, bad := range []Request{{Name: "x"}, {Name: "../x", Role: "x"}, {Name: "", Role: "x"}, {Name: "ca", Role: "x"}} {
		_, err := again.Issue(bad)
		require.Error(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("nonsense"), 0o600))
	_, err = Open(dir)
	require.ErrorContains(t, err, "ca.pem")
}

func TestRenewedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := Open(dir)
	require.NoError(t, err)
	p, err := a.Client("node")
	require.NoError(t, err)
	key, root := read(t, p.Key), read(t, p.Root)
	renewed, err := a.Renew()
	require.NoError(t, err)
	require.Empty(t, renewed)

	later := time.Now().Add(leafLife - leafSpare + time.Hour)
	a.now = func() time.Time { return later }
	renewed, err = a.Renew()
	require.NoError(t, err)
	require.Equal(t, []string{p.Certificate}, renewed)
	require.WithinDuration(t, later.Add(leafLife), load(t, p).Leaf.NotAfter, time.Minute)
	require.Equal(t, key, read(t, p.Key), "who reads one file late has a pair still")
	require.Equal(t, root, read(t, p.Root))

	// A root that is about to end is replaced, and what it issued with it.
	b := &Authority{dir: dir, now: func() time.Time { return time.Now().Add(rootLife - time.Hour) }, issued: map[string]Request{}}
	require.NoError(t, b.open())
	require.NotEqual(t, root, read(t, p.Root))
	before := read(t, p.Certificate)
	_, err = b.Client("node")
	require.NoError(t, err)
	require.NotEqual(t, before, read(t, p.Certificate))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Run(ctx, slog.New(slog.DiscardHandler), nil) // returns
}

func TestManyOpenAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	roots := make([]string, 8)
	for i := range roots {
		wg.Go(func() {
			a, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			roots[i] = string(a.RootPEM())
			if _, err := a.Client("same"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, r := range roots {
		require.Equal(t, roots[0], r)
	}
	_, err := tls.LoadX509KeyPair(filepath.Join(dir, "same.crt"), filepath.Join(dir, "same.key"))
	require.NoError(t, err)
}
