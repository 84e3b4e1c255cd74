// Package natsserver runs a NATS server with JetStream inside this process,
// for the development fleet and for tests. Production runs a NATS cluster.
//
// It is no system of record: whatever its store loses (writes are synced to
// disk in intervals, not one by one) is published again from the catalog.
//
// Import law: of this module, natsserver imports internal/natsrole only.
package natsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/freehold-db/freehold/internal/natsrole"
)

// startFor bounds how long a server may take to open its store and listen.
const startFor = time.Minute

// tlsFor bounds a client's handshake; the machine may be busy.
const tlsFor = 10 * time.Second

// Config says where the server keeps its state and where it listens.
type Config struct {
	// Dir holds the JetStream store. A later server started on the same Dir resumes it.
	Dir string
	// Port on loopback; 0 picks a free one. Give the earlier Port to be found again after a restart.
	Port int
	// Token, when set, must be presented by every client; [Server.URL] carries it.
	Token string
	// Users, when there are any, are all who may connect, and what each may do.
	Users []natsrole.User
	// TLS, when set, is the only way to speak to the server; the certificate may change with every connection.
	TLS *tls.Config
	// Log takes the server's warnings and errors; nil is slog.Default().
	Log *slog.Logger
}

// Server is a running server. It is stopped once with Stop; stopping again does nothing.
type Server struct {
	ns    *server.Server
	port  int
	token string
	tls   bool
}

// Start returns when clients can connect and JetStream is ready. It fails when
// the port is taken, the store is unreadable, or ctx ends first.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("natsserver: no directory given")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("natsserver: %w", err)
	}
	port := cfg.Port
	if port == 0 {
		port = server.RANDOM_PORT
	} else if err := portFree(ctx, port); err != nil {
		return nil, fmt.Errorf("natsserver: %w", err) // asked here because the server itself only logs it
	}
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	opts := &server.Options{
		ServerName: "freehold-dev", Host: "127.0.0.1", Port: port, Authorization: cfg.Token,
		JetStream: true, StoreDir: cfg.Dir, JetStreamMaxStore: 4 << 30, JetStreamMaxMemory: 64 << 20,
		SyncAlways: false, NoSigs: true, DisableJetStreamBanner: true, MaxPayload: 1 << 20,
		TLSConfig: cfg.TLS, TLS: cfg.TLS != nil, TLSTimeout: tlsFor.Seconds(),
	}
	if len(cfg.Users) > 0 {
		var text strings.Builder // as a cluster's configuration says it
		if err := natsrole.WriteConfig(&text, cfg.Users); err != nil {
			return nil, fmt.Errorf("natsserver: %w", err)
		}
		if err := opts.ProcessConfigString(text.String()); err != nil {
			return nil, fmt.Errorf("natsserver: %w", err)
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("natsserver: %w", err)
	}
	ns.SetLoggerV2(logger{log.With("part", "nats")}, false, false, false)
	ns.Start()
	s := &Server{ns: ns, token: cfg.Token, tls: cfg.TLS != nil}
	if err := s.ready(ctx); err != nil {
		ns.Shutdown()
		return nil, err
	}
	s.port = ns.Addr().(*net.TCPAddr).Port
	return s, nil
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startFor)
	defer cancel()
	for !s.ns.ReadyForConnections(50*time.Millisecond) || !s.ns.JetStreamEnabled() {
		if !s.ns.Running() {
			return errors.New("natsserver: server gave up starting; its log says why")
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("natsserver: not ready: %w", err)
		}
	}
	return nil
}

// Port is where the server listens on loopback.
func (s *Server) Port() int { return s.port }

// URL is what clients connect to. It carries the token when there is one, so treat it as a secret then.
func (s *Server) URL() string {
	scheme := "nats"
	if s.tls {
		scheme = "tls"
	}
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))}
	if s.token != "" {
		u.User = url.User(s.token)
	}
	return u.String()
}

// Stop ends the server and returns when its store is closed, or with ctx's error when that comes first.
func (s *Server) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("natsserver: stop: %w", ctx.Err())
	}
}

func portFree(ctx context.Context, port int) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

// logger passes what matters on to slog: notices of a development server are noise.
type logger struct{ *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Warnf(format string, v ...any)   { l.Warn(fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any)  { l.Error(fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any)  { l.Error(fmt.Sprintf(format, v...)) }
func (l logger) Debugf(string, ...any)           {}
func (l logger) Tracef(string, ...any)           {}
