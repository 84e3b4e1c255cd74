package servertls_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/servertls"
	"github.com/freehold-db/freehold/internal/servertls/servertlstest"
)

// echo answers everybody with what they say, by TLS.
func echo(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // a test's
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// greet says something on conn and hears it back.
func greet(conn *tls.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

// touch makes a file's time another one, however coarse the clock of the file system is.
func touch(t *testing.T, path string, by time.Duration) {
	t.Helper()
	now := time.Now().Add(by)
	require.NoError(t, os.Chtimes(path, now, now))
}

func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	dir, before, after := t.TempDir(), servertlstest.New(t), servertlstest.New(t)
	files := before.Issue(t, dir, "127.0.0.1")
	c, err := servertls.Load(files, tls.VersionTLS12, nil, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), c.NotAfter(), time.Minute)
	address := echo(t, c.Config())
	old, err := tls.Dial("tcp", address, &tls.Config{RootCAs: before.Pool})
	require.NoError(t, err)
	require.NoError(t, greet(old))
	c.Look()
	require.Empty(t, log.String(), "nothing has changed")

	// Half of a change, or nonsense, changes nothing.
	good, err := os.ReadFile(files.Key)
	require.NoError(t, err)
	for i, bad := range [][]byte{[]byte("nonsense"), nil} {
		require.NoError(t, os.WriteFile(files.Key, bad, 0o600))
		touch(t, files.Key, time.Duration(i+1)*time.Minute)
		log.Reset()
		c.Look()
		require.Contains(t, log.String(), "the old one stays")
		require.NotContains(t, log.String(), string(good))
		log.Reset()
		c.Look()
		require.Empty(t, log.String(), "said once")
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: before.Pool})
		require.NoError(t, err)
		require.NoError(t, greet(conn))
		require.NoError(t, conn.Close())
	}

	after.Issue(t, dir, "127.0.0.1")
	touch(t, files.Key, 5*time.Minute)
	c.Look()
	require.Contains(t, log.String(), "certificate read")
	_, err = tls.Dial("tcp", address, &tls.Config{RootCAs: before.Pool})
	require.Error(t, err)
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: after.Pool})
	require.NoError(t, err)
	require.NoError(t, greet(conn))
	require.NoError(t, conn.Close())
	require.NoError(t, greet(old), "who is connected stays so")
	require.NoError(t, old.Close())
}

func TestClientsShowCertificates(t *testing.T) {
	t.Parallel()
	dir, ca, clients, strangers := t.TempDir(), servertlstest.New(t), servertlstest.New(t), servertlstest.New(t)
	files := ca.Issue(t, dir, "127.0.0.1")
	files.ClientCA = filepath.Join(dir, "ca.crt")
	require.NoError(t, os.WriteFile(files.ClientCA, clients.PEM, 0o600))
	c, err := servertls.Load(files, tls.VersionTLS13, nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	address := echo(t, c.Config())
	try := func(cfg *tls.Config) error {
		cfg.RootCAs = ca.Pool
		conn, err := tls.Dial("tcp", address, cfg)
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // a test's
		return greet(conn)
	}
	require.NoError(t, try(&tls.Config{Certificates: []tls.Certificate{clients.Client(t)}}))
	require.Error(t, try(&tls.Config{Certificates: []tls.Certificate{strangers.Client(t)}}))
	require.Error(t, try(&tls.Config{}))
	require.Error(t, try(&tls.Config{Certificates: []tls.Certificate{clients.Client(t)}, MaxVersion: tls.VersionTLS12}))
}

func TestWhatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := servertlstest.New(t).Issue(t, dir, "127.0.0.1")
	log := slog.New(slog.DiscardHandler)
	for _, bad := range []servertls.Files{
		{Certificate: files.Certificate, Key: filepath.Join(dir, "gone")},
		{Certificate: files.Key, Key: files.Certificate},
		{Certificate: files.Certificate, Key: files.Key, ClientCA: filepath.Join(dir, "gone")},
		{Certificate: files.Certificate, Key: files.Key, ClientCA: files.Key},
	} {
		_, err := servertls.Load(bad, tls.VersionTLS12, nil, log)
		require.Error(t, err)
	}
}
