// Package clienttls is a client's side of TLS: whom it believes, and the
// certificate that it shows, which is read again when its files change.
//
// Import law: clienttls imports no other package of this module.
package clienttls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files are PEM files; each may be missing ("").
type Files struct {
	// CA holds the roots that a server's certificate must come from; without it the system's.
	CA string
	// System has the system's roots believed besides CA.
	System bool
	// Certificate and Key are what we show to servers that ask.
	Certificate, Key string
}

// Empty tells whether nothing is said about TLS.
func (f Files) Empty() bool { return f == Files{} }

// Load reads the files. Roots are read once, the certificate again whenever its
// file has changed; one that cannot be used then leaves the old one.
func Load(f Files) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if f.System {
			if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
				return nil, fmt.Errorf("TLS: %w", err)
			}
		}
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("TLS: %s holds no certificate", f.CA)
		}
	}
	if (f.Certificate == "") != (f.Key == "") {
		return nil, errors.New("TLS: a certificate without its key, or a key without its certificate")
	}
	if f.Certificate != "" {
		c := &certificate{files: f}
		if _, err := c.get(); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.get() }
	}
	return cfg, nil
}

// certificate is what the files last held that could be used.
type certificate struct {
	files Files
	mu    sync.Mutex
	read  time.Time // the certificate's file, as it was when it was read
	pair  *tls.Certificate
}

func (c *certificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.files.Certificate)
	if err == nil && c.pair != nil && info.ModTime().Equal(c.read) {
		return c.pair, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.files.Certificate, c.files.Key); err == nil {
			c.pair, c.read = &pair, info.ModTime()
		}
	}
	if c.pair == nil {
		return nil, err
	}
	return c.pair, nil
}
