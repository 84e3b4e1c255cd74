package dataplane

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/internal/servertls"
)

// tlsVersions are the values of tls_min.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// loadTLS reads the node's certificate; nil without one: plain HTTP.
func (s *Server) loadTLS() (_ *tls.Config, err error) {
	if s.cfg.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // no TLS asked for
	}
	files := servertls.Files{Certificate: s.cfg.TLSCertFile, Key: s.cfg.TLSKeyFile, ClientCA: s.cfg.TLSClientCAFile}
	if s.secure, err = servertls.Load(files, tlsVersions[s.cfg.TLSMin], []string{"h2", "http/1.1"}, s.log); err != nil {
		return nil, err
	}
	return s.secure.Config(), nil
}

// opsTLS is for the listener of metrics and probes; nil: plain HTTP.
func (s *Server) opsTLS() *tls.Config {
	if s.secure == nil || !s.cfg.OpsTLS {
		return nil
	}
	return s.secure.Config()
}

// certificateEnd is when the TLS certificate ends.
func certificateEnd(notAfter func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "freehold_tls_certificate_not_after_seconds", Help: "When the TLS certificate in use ends, as Unix time.",
	}, func() float64 { return float64(notAfter().Unix()) })
}
