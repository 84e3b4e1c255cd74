package natslink_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pki"
)

// lines takes what is logged.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

func (l lines) says(t *testing.T, want string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, want) {
				return
			}
		case <-late:
			t.Fatalf("nobody said %q", want)
		}
	}
}

// Who is not let in is told why, though it is tried again for ever.
func TestWhyThereIsNoConnectionIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := func(name string) (*pki.Authority, clienttls.Files) {
		ca, err := pki.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		client, err := ca.Client("client")
		require.NoError(t, err)
		return ca, clienttls.Files{CA: ca.Root(), Certificate: client.Certificate, Key: client.Key}
	}
	ca, ours := authority("ours")
	_, theirs := authority("theirs")
	server, err := ca.Server("nats")
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(server.Certificate, server.Key)
	require.NoError(t, err)
	role := natsrole.Node("n1")
	known, stranger := filepath.Join(dir, "known.nk"), filepath.Join(dir, "stranger.nk")
	key, err := natslink.Seed(known)
	require.NoError(t, err)
	_, err = natslink.Seed(stranger)
	require.NoError(t, err)
	own, err := natsserver.Start(t.Context(), natsserver.Config{Dir: filepath.Join(dir, "store"), Users: []natsrole.User{{Key: key, Role: role}},
		Log: slog.New(slog.DiscardHandler), TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = own.Stop(context.Background()) })
	for want, cfg := range map[string]natslink.Config{
		"Authorization Violation": {URL: own.URL(), TLS: ours, SeedFile: stranger},
		"unknown authority":       {URL: own.URL(), TLS: clienttls.Files{CA: theirs.CA, Certificate: ours.Certificate, Key: ours.Key}, SeedFile: known},
		"may be heard":            {URL: "nats://nowhere.invalid:1"},
	} {
		said := make(lines, 1000)
		nc, err := natslink.Connect(cfg, role, "test", slog.New(slog.NewTextHandler(said, nil)))
		require.NoError(t, err)
		said.says(t, want)
		nc.Close()
	}
}
