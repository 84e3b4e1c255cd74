package pgserver

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/freehold-db/freehold/internal/pg"
)

// TLS are the PEM files of one server, ours to read. The server has copies of
// them, which belong to its account.
type TLS struct {
	// CA holds the roots of all whom the server trusts: clients and other servers.
	CA string
	// Cert and Key are what the server shows, as a server and as another server's client.
	Cert, Key string
	// ClientCert and ClientKey are what we show in URLs made here; default Cert and Key.
	ClientCert, ClientKey string
}

// query are the parameters of a URL to the server with these files.
func (t *TLS) query() string {
	if t == nil {
		return "sslmode=disable"
	}
	cert, key := t.ClientCert, t.ClientKey
	if cert == "" {
		cert, key = t.Cert, t.Key
	}
	return url.Values{"sslmode": {"verify-full"}, "sslrootcert": {t.CA}, "sslcert": {cert}, "sslkey": {key}}.Encode()
}

func (p place) tlsDir(t *TLS) string {
	if t == nil {
		return ""
	}
	return filepath.Join(p.dir, "tls")
}

// install copies the files to where the server reads them: it accepts none
// that another account could read, and may not be able to reach ours.
func (p place) install(t *TLS) error {
	if t == nil {
		return nil
	}
	dir := p.tlsDir(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := p.acct.own(dir); err != nil {
		return err
	}
	var all error
	for _, f := range [][2]string{{t.CA, pg.ServerCAFile}, {t.Key, pg.ServerKeyFile}, {t.Cert, pg.ServerCertFile}} {
		text, err := os.ReadFile(f[0])
		if err == nil {
			err = p.write(filepath.Join("tls", f[1]), string(text))
		}
		all = errors.Join(all, err)
	}
	return all
}

func (p place) postgresTLS() map[string]string {
	dir := filepath.Join(p.dir, "tls")
	return map[string]string{
		"ssl": "on", "ssl_min_protocol_version": "TLSv1.2",
		"ssl_ca_file":   filepath.Join(dir, pg.ServerCAFile),
		"ssl_cert_file": filepath.Join(dir, pg.ServerCertFile),
		"ssl_key_file":  filepath.Join(dir, pg.ServerKeyFile),
	}
}

func (p place) bouncerTLS() (set [][2]string) {
	dir := filepath.Join(p.dir, "tls")
	for _, side := range []string{"client_tls_", "server_tls_"} {
		set = append(set, [][2]string{
			{side + "sslmode", "verify-full"}, {side + "protocols", "tlsv1.2,tlsv1.3"},
			{side + "ca_file", filepath.Join(dir, pg.ServerCAFile)},
			{side + "cert_file", filepath.Join(dir, pg.ServerCertFile)},
			{side + "key_file", filepath.Join(dir, pg.ServerKeyFile)},
		}...)
	}
	return set
}

// renew installs the files and has the process, if it runs, read them.
func (g *guarded) renew(p place, t *TLS) error {
	if err := p.install(t); err != nil {
		return err
	}
	pid := g.Pid()
	if pid == 0 {
		return nil
	}
	return syscall.Kill(pid, syscall.SIGHUP)
}
