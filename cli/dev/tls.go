package dev

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/internal/servertls"
)

// operator is the role of who uses the fleet from this machine.
const operator = "operator"

// openAuthority makes sure of the fleet's certificates, if it has any; they are
// renewed as long as the fleet runs.
func (f *Fleet) openAuthority() (err error) {
	if !f.state.TLS {
		return nil
	}
	if f.authority, err = pki.Open(f.dir.pki()); err != nil {
		return err
	}
	if f.operator, err = f.authority.Client(operator); err != nil {
		return err
	}
	log, err := f.logger("pki")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.authority.Run(ctx, log, func() {
			if err := f.renewed(); err != nil {
				log.Error("renewed certificates are not used yet", "err", err)
			}
		})
	}()
	f.endAuthority = func() { cancel(); <-done }
	return nil
}

// renewed tells the servers that don't look at their files by themselves.
func (f *Fleet) renewed() error {
	for _, name := range f.Names() {
		m, err := f.member(name)
		if err != nil {
			return err
		}
		r, ok := m.part.(interface{ renew() error })
		if !ok {
			continue
		}
		m.mu.Lock()
		err = r.renew()
		m.mu.Unlock()
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

func (p *postgresPart) renew() error {
	if p.server == nil {
		return nil
	}
	return p.server.Renew()
}

func (b *bouncerPart) renew() error {
	if b.server == nil {
		return nil
	}
	return b.server.Renew()
}

// certificate is a part's, for its clients and for the servers whose client it
// is; all files are empty in a fleet without TLS.
func (f *Fleet) certificate(name string) (pki.Pair, error) {
	if f.authority == nil {
		return pki.Pair{}, nil
	}
	return f.authority.Server(name)
}

// admin is a client of the control plane; others can be told of it later.
func (f *Fleet) admin() (*client.Client, error) {
	info := f.tlsInfo()
	info.AdminToken = f.adminToken.Password
	return info.ClientAt(f.adminURL())
}

// serverTLS are the files of a Postgres or PgBouncer; nil in a fleet without TLS.
func (f *Fleet) serverTLS(name string) (*pgserver.TLS, error) {
	p, err := f.certificate(name)
	if err != nil || p.Root == "" {
		return nil, err
	}
	return &pgserver.TLS{CA: p.Root, Cert: p.Certificate, Key: p.Key, ClientCert: f.operator.Certificate, ClientKey: f.operator.Key}, nil
}

// databaseTLS is how a part with that certificate reaches databases.
func databaseTLS(p pki.Pair) pg.TLS {
	if p.Root == "" {
		return pg.TLS{}
	}
	return pg.TLS{Mode: pg.TLSVerifyFull, CAFile: p.Root, CertFile: p.Certificate, KeyFile: p.Key}
}

// secureHBA has a server speak TLS only, with those who show a certificate.
func secureHBA(lines []string) (secure []string) {
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(line, "host "); ok {
			line = "hostssl " + rest + " clientcert=verify-ca"
		}
		secure = append(secure, line)
	}
	return secure
}

// listenTLS is for a server in this process; nil for one without a certificate. It ends with life.
func listenTLS(life context.Context, files servertls.Files, log *slog.Logger) (*tls.Config, error) {
	if files.Certificate == "" {
		return nil, nil //nolint:nilnil // no TLS asked for
	}
	cert, err := servertls.Load(files, tls.VersionTLS12, []string{"http/1.1"}, log)
	if err != nil {
		return nil, err
	}
	go cert.Run(life)
	return cert.Config(), nil
}

// tlsInfo is what of [Fleet.Info] is about TLS.
func (f *Fleet) tlsInfo() Info {
	return Info{Secure: f.state.TLS, CAFile: f.operator.Root, CertFile: f.operator.Certificate, KeyFile: f.operator.Key}
}

func (s *state) scheme() string {
	if s.TLS {
		return "https"
	}
	return "http"
}

// TLS is what an operator on this machine believes and shows; empty in a fleet without TLS.
func (i Info) TLS() clienttls.Files {
	return clienttls.Files{CA: i.CAFile, Certificate: i.CertFile, Key: i.KeyFile}
}

// TLSConfig is [Info.TLS], read; nil in a fleet without TLS.
func (i Info) TLSConfig() (*tls.Config, error) {
	if i.TLS().Empty() {
		return nil, nil //nolint:nilnil // plain HTTP
	}
	return clienttls.Load(i.TLS())
}

// HTTP is a client of the fleet's HTTP servers, with connections of its own.
func (i Info) HTTP() (*http.Client, error) {
	cfg, err := i.TLSConfig()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}}, nil
}

// Client is a client of the fleet's control plane.
func (i Info) Client() (*client.Client, error) { return i.ClientAt(i.AdminURL) }

// ClientAt is a client of the replica at that URL.
func (i Info) ClientAt(url string) (*client.Client, error) {
	cfg, err := i.TLSConfig()
	if err != nil {
		return nil, err
	}
	return client.New(url, i.AdminToken, client.WithTLS(cfg))
}
