// Package servertls is a server's side of TLS: a certificate read from files,
// and read again when they change, without a connection being dropped.
//
// Import law: servertls imports no other package of this module.
package servertls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// lookEvery is how often the files are looked at.
const lookEvery = 5 * time.Second

// Files are PEM files.
type Files struct {
	// Certificate holds the server's certificate and those between it and its root; Key its private key.
	Certificate, Key string
	// ClientCA, when set, holds the roots of which every client must show a certificate.
	ClientCA string
}

// Certificate is what the files last said that could be used.
type Certificate struct {
	files    Files
	protos   []string
	oldest   uint16
	log      *slog.Logger
	seen     [3]stamp
	now      atomic.Pointer[tls.Config]
	notAfter atomic.Int64 // Unix time
}

// stamp tells a file's versions apart.
type stamp struct {
	changed time.Time
	size    int64
}

// Load reads the files. oldest is the oldest version of TLS that is spoken
// (such as [tls.VersionTLS12]), protos what is spoken inside, best first.
func Load(files Files, oldest uint16, protos []string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{files: files, oldest: oldest, protos: protos, log: log}
	c.changed()
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

// Config is for a listener. A connection has what the files said when it began.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: c.oldest, NextProtos: c.protos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load(), nil }}
}

// NotAfter is when the certificate ends.
func (c *Certificate) NotAfter() time.Time { return time.Unix(c.notAfter.Load(), 0) }

// Run reads the files again when they have changed, until ctx ends. What cannot
// be used is logged, and what was used before stays.
func (c *Certificate) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.Look()
		}
	}
}

// Look reads the files if they have changed since they were last looked at; Run
// does so every few seconds. It is not safe for concurrent use.
func (c *Certificate) Look() {
	if !c.changed() {
		return
	}
	if err := c.read(); err != nil {
		c.log.Error("the new TLS certificate cannot be used, the old one stays", "file", c.files.Certificate, "until", c.NotAfter(), "err", err)
		return
	}
	c.log.Info("TLS certificate read", "file", c.files.Certificate, "until", c.NotAfter())
}

// changed notes what the files are now, and tells whether they are others than before.
func (c *Certificate) changed() bool {
	var now [3]stamp
	for i, path := range []string{c.files.Certificate, c.files.Key, c.files.ClientCA} {
		if info, err := os.Stat(path); err == nil {
			now[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	before := c.seen
	c.seen = now
	return now != before
}

func (c *Certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: c.oldest, NextProtos: c.protos, CipherSuites: suites}
	if c.files.ClientCA != "" {
		text, err := os.ReadFile(c.files.ClientCA)
		if err != nil {
			return err
		}
		cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		cfg.SessionTicketsDisabled = true // a session taken up again would outlive its root's removal
		if !cfg.ClientCAs.AppendCertsFromPEM(text) {
			return errors.New(c.files.ClientCA + " holds no certificate")
		}
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		c.log.Warn("the TLS certificate has expired", "file", c.files.Certificate, "until", pair.Leaf.NotAfter)
	}
	c.now.Store(cfg)
	c.notAfter.Store(pair.Leaf.NotAfter.Unix())
	return nil
}

// suites are those of TLS 1.2 with forward secrecy and authenticated
// encryption; TLS 1.3 has no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}
