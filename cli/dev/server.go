package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/servertls"
	"github.com/freehold-db/freehold/internal/telemetry"
)

// onPort gives the named part the port it had before, or a free one, and
// remembers it. When somebody else took the port meanwhile it gets another;
// only a part's first start may do that, before others were told its address.
func (f *Fleet) onPort(name string, start func(port int) error) error {
	port := f.state.port(name)
	for attempt := 0; ; attempt++ {
		if port == 0 {
			var err error
			if port, err = process.FreePort(); err != nil {
				return err
			}
		}
		err := start(port)
		switch {
		case err == nil:
			return f.state.setPort(name, port)
		case attempt < 10 && (errors.Is(err, process.ErrPortInUse) || errors.Is(err, syscall.EADDRINUSE)):
			port = 0
		default:
			return err
		}
	}
}

// served is a part with a port, whose inner part is made anew when the port is lost before the first start.
type served struct {
	f    *Fleet
	name string
	make func(port int) (part, error)
	part // nil before the first start
}

func (s *served) start(ctx context.Context) error {
	if s.part != nil {
		return s.part.start(ctx)
	}
	return s.f.onPort(s.name, func(port int) error {
		p, err := s.make(port)
		if err != nil {
			return err
		}
		if err := p.start(ctx); err != nil {
			return err
		}
		s.part = p
		return nil
	})
}

func (s *served) stop(ctx context.Context) error {
	if s.part == nil {
		return nil
	}
	return s.part.stop(ctx)
}

func (s *served) kill() error {
	if s.part == nil {
		return nil
	}
	return s.part.kill()
}

func (s *served) pid() int {
	if s.part == nil {
		return 0
	}
	return s.part.pid()
}

func (s *served) ended() <-chan struct{} {
	if s.part == nil {
		return nil
	}
	return s.part.ended()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (f *Fleet) newIssuer() *served {
	return &served{f: f, name: issuerPart, make: func(port int) (part, error) {
		pair, err := f.certificate(issuerPart)
		if err != nil {
			return nil, err
		}
		log, err := f.logger(issuerPart)
		if err != nil {
			return nil, err
		}
		return &embedded{run: func(ctx context.Context) (stopper, error) {
			secure, err := listenTLS(ctx, servertls.Files{Certificate: pair.Certificate, Key: pair.Key}, log)
			if err != nil {
				return nil, err
			}
			s, err := issuer.StartTLS(ctx, f.dir.issuer(), loopback(port), secure)
			if err != nil {
				return nil, err
			}
			f.jwksURL.Store(s.JWKSURL())
			return s, nil
		}}, nil
	}}
}

// clientPrograms are the machine's pg_dump and pg_restore, and those beside
// shards' own servers; empty: there are the machine's alone.
func (f *Fleet) clientPrograms() string {
	var own []string
	for _, id := range f.state.shardIDs() {
		if dir := f.state.PostgresBin[id]; dir != "" && pgserver.HasClients(dir) {
			own = append(own, dir)
		}
	}
	if len(own) == 0 {
		return ""
	}
	return strings.Join(append(pgserver.ClientDirs(), own...), string(os.PathListSeparator))
}

func (f *Fleet) newControlPlane(name string) *served {
	return &served{f: f, name: name, make: func(port int) (part, error) {
		pair, err := f.certificate(name)
		if err != nil {
			return nil, err
		}
		cfg := controlplane.Config{
			TLSCertFile: pair.Certificate, TLSKeyFile: pair.Key, TLSClientCAFile: pair.Root, DatabaseTLS: databaseTLS(pair),
			NATSSeedFile: f.natsSeed(controlPlanePart), NATSAuditSeedFile: f.natsSeed(auditorKey), NATSCAFile: pair.Root, NATSCertFile: pair.Certificate, NATSKeyFile: pair.Key,
			Name: name, Listen: loopback(port), CatalogDSN: f.catalogDSN(), AuditDSN: f.auditDSN(), AuditOwnerDSN: f.auditOwnerDSN(name), NATSURL: f.natsURL(),
			SecretsDir: f.dir.secrets(), CopiesDir: f.dir.copies(), MigrationsDir: f.migrationsDir, TokensFile: f.tokensFile(), PGBinDir: f.clientPrograms(),
			OIDCIssuers: controlplane.OIDCIssuers{{Name: "dev", URL: f.issuerURL(), ClientID: issuer.ClientID,
				Roles: map[string]authority.Role{"viewers": authority.Viewer, "operators": authority.Operator, "admins": authority.Admin}}},
			OIDCCAFile:   pair.Root,
			MeasureEvery: 2 * time.Second, // somebody looks on
		}
		cfg.Defaults()
		if f.opts.ControlPlane != nil {
			f.opts.ControlPlane(&cfg)
		}
		if f.opts.Processes {
			return f.child(name, []string{"controlplane"}, cfg, port, f.ready(cfg.Listen))
		}
		if cfg.Log, err = f.logger(name); err != nil {
			return nil, err
		}
		return &embedded{run: func(ctx context.Context) (stopper, error) { return orNil(controlplane.Start(ctx, cfg)) }, ready: f.ready(cfg.Listen)}, nil
	}}
}

func (f *Fleet) newNode(name string) *served {
	return &served{f: f, name: name, make: func(port int) (part, error) {
		ops, err := f.opsPort(name)
		if err != nil {
			return nil, err
		}
		pair, err := f.certificate(name)
		if err != nil {
			return nil, err
		}
		cfg := dataplane.Config{
			TLSCertFile: pair.Certificate, TLSKeyFile: pair.Key, OpsTLS: f.state.TLS, IssuerCAFile: pair.Root, DatabaseTLS: databaseTLS(pair),
			NATSSeedFile: f.natsSeed(name), NATSCAFile: pair.Root, NATSCertFile: pair.Certificate, NATSKeyFile: pair.Key,
			ControlCAFile: pair.Root, ControlCertFile: pair.Certificate, ControlKeyFile: pair.Key,
			Name: name, Listen: loopback(port), OpsListen: loopback(ops), NATSURL: f.natsURL(), ControlURL: strings.Join(f.adminURLs(), ","), ControlTokenFile: f.nodeTokenFile(),
			SecretsDir: secret.TenantsDir(f.dir.secrets()), Issuer: f.issuerURL(), JWKSURL: f.jwksURL.Load().(string), Audience: issuer.Audience,
			Development: true, IssuerNetworks: []string{"127.0.0.0/8", "::1/128"}, // a tenant's own issuer may be tried here, too
		}
		cfg.Defaults()
		if f.opts.DataPlane != nil {
			f.opts.DataPlane(&cfg)
		}
		if f.opts.Processes {
			return f.child(name, []string{"dataplane"}, cfg, port, f.ready(cfg.Listen))
		}
		if cfg.Log, err = f.logger(name); err != nil {
			return nil, err
		}
		return &embedded{run: func(ctx context.Context) (stopper, error) { return orNil(dataplane.Start(ctx, cfg)) }, ready: f.ready(cfg.Listen)}, nil
	}}
}

// opsPort is where a node's metrics are: where they were, or a free port.
func (f *Fleet) opsPort(name string) (int, error) {
	port := f.state.port(name + opsSuffix)
	if port != 0 && process.PortFree(port) {
		return port, nil
	}
	port, err := process.FreePort()
	if err != nil {
		return 0, err
	}
	return port, f.state.setPort(name+opsSuffix, port)
}

// orNil keeps a nil *T from becoming a non-nil interface.
func orNil[T any, P interface {
	*T
	stopper
}](s P, err error) (stopper, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// child writes the configuration of a part and returns the process that will run with it.
func (f *Fleet) child(name string, args []string, cfg any, port int, ready func(context.Context) error) (part, error) {
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	file := f.dir.config(name + ".yaml")
	if err := writeFile(file, b); err != nil {
		return nil, err
	}
	return &child{binary: f.opts.Binary, args: args, config: file, log: f.dir.log(name), pids: f.dir.pid(name),
		dir: string(f.dir), port: port, ready: ready}, nil
}

// childEnv is our environment without what would override a part's configuration file.
func childEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "FREEHOLD_LOG", name == "FREEHOLD_LOG_LEVEL", name == "FREEHOLD_PG_BINDIR", !strings.HasPrefix(name, "FREEHOLD_"):
			env = append(env, kv)
		}
	}
	return env
}

// logger writes to the log file of a part inside our process.
func (f *Fleet) logger(name string) (*slog.Logger, error) {
	file, err := os.OpenFile(f.dir.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.logs = append(f.logs, file)
	f.mu.Unlock()
	return slog.New(telemetry.NewLogHandler(file, f.opts.Level, false)).With("name", name), nil
}

// ready tells whether a part of ours that listens there is ready.
func (f *Fleet) ready(address string) func(context.Context) error {
	return f.tlsInfo().answers(f.state.scheme() + "://" + address + "/readyz")
}

// answers tells whether a GET of the URL is answered with 200.
func (i Info) answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		web, err := i.HTTP()
		if err != nil {
			return err
		}
		defer web.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

func dialable(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
