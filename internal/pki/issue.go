package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lookEvery is how often Run asks which certificates end: a machine that slept
// for weeks wakes up with some that have.
const lookEvery = time.Minute

// Request says what a certificate is for.
type Request struct {
	// Dir takes the files Name.crt and Name.key; empty: the authority's own directory.
	Dir, Name string
	// Hosts are the host names and addresses that a server is asked for by.
	Hosts []string
	// Role is whom a client's certificate names (its common name); empty: it is no client's.
	Role string
	// Own, if given, hands a file to another account before it has its name.
	Own func(path string) error
}

// Pair are the PEM files of a certificate, mode 0600.
type Pair struct {
	Certificate, Key string
	Root             string // of the authority, for those who verify
}

// Issue returns a certificate that is good for a while: the one that is there,
// if it is what r asks for, or a new one with the same key. Run renews it from then on.
func (a *Authority) Issue(r Request) (Pair, error) {
	if r.Dir == "" {
		r.Dir = a.dir
	}
	if r.Name == "" || filepath.Base(r.Name) != r.Name || r.Name == "ca" {
		return Pair{}, fmt.Errorf("a certificate's files cannot be named %q", r.Name)
	}
	if len(r.Hosts) == 0 && r.Role == "" {
		return Pair{}, fmt.Errorf("certificate %s: for neither a host nor a role", r.Name)
	}
	r.Hosts = slices.Clone(r.Hosts)
	p := r.pair(a)
	if _, err := a.ensure(r); err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", r.Name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued[p.Certificate] = r
	return p, nil
}

// Server is a certificate for a server on loopback, in the authority's directory;
// the server may show it as a client, too, by its name.
func (a *Authority) Server(name string) (Pair, error) {
	return a.Issue(Request{Name: name, Role: name, Hosts: Loopback()})
}

// Client is a certificate for who acts in a role, in the authority's directory.
func (a *Authority) Client(role string) (Pair, error) {
	return a.Issue(Request{Name: role, Role: role})
}

// Loopback are the names and addresses of this machine for itself.
func Loopback() []string { return []string{"localhost", "127.0.0.1", "::1"} }

func (r Request) pair(a *Authority) Pair {
	file := filepath.Join(r.Dir, r.Name)
	return Pair{Certificate: file + ".crt", Key: file + ".key", Root: a.Root()}
}

// Run renews what was issued, in good time, until ctx ends; then is called after
// a renewal, to tell those who don't look at their files by themselves.
func (a *Authority) Run(ctx context.Context, log *slog.Logger, then func()) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			renewed, err := a.Renew()
			for _, file := range renewed {
				log.Info("certificate renewed", "file", file)
			}
			if err != nil {
				log.Error("certificates cannot be renewed", "err", err)
			}
			if len(renewed) > 0 {
				then()
			}
		}
	}
}

// Renew makes those issued certificates anew whose life is mostly over, and
// returns their files. Run does so every minute.
func (a *Authority) Renew() (renewed []string, err error) {
	a.mu.Lock()
	issued := maps.Clone(a.issued)
	a.mu.Unlock()
	for file, r := range issued {
		fresh, failed := a.ensure(r)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", file, failed))
		} else if fresh {
			renewed = append(renewed, file)
		}
	}
	slices.Sort(renewed)
	return renewed, err
}

// ensure sees to it that the files of r hold a good certificate; fresh: they hold a new one.
func (a *Authority) ensure(r Request) (fresh bool, err error) {
	unlock, err := lock(a.dir)
	if err != nil {
		return false, err
	}
	defer unlock()
	files := r.pair(a)
	cert, err := os.ReadFile(files.Certificate)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	secret, err := os.ReadFile(files.Key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	leaf, key, err := parse(cert, secret)
	if err == nil && a.good(leaf, r) {
		return false, nil
	}
	if err != nil {
		// A certificate is renewed with its key, so that whoever reads the two files
		// while one is replaced finds a pair. Here there was none.
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return false, err
		}
		if secret, err = keyPEM(key); err != nil {
			return false, err
		}
		if err := replace(files.Key, secret, r.Own); err != nil {
			return false, err
		}
	}
	der, err := a.sign(r, &key.PublicKey)
	if err != nil {
		return false, err
	}
	return true, replace(files.Certificate, certPEM(der), r.Own)
}

func (a *Authority) sign(r Request, key *ecdsa.PublicKey) ([]byte, error) {
	name := r.Role
	if name == "" {
		name = r.Name
	}
	tmpl, err := a.template(name, leafLife)
	if err != nil {
		return nil, err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = r.usages()
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	return x509.CreateCertificate(rand.Reader, tmpl, a.cert, key, a.key)
}

func (r Request) usages() (u []x509.ExtKeyUsage) {
	if len(r.Hosts) > 0 {
		u = append(u, x509.ExtKeyUsageServerAuth)
	}
	if r.Role != "" {
		u = append(u, x509.ExtKeyUsageClientAuth)
	}
	return u
}

// good: the certificate is ours, is what r asks for, and lasts.
func (a *Authority) good(leaf *x509.Certificate, r Request) bool {
	if a.now().Add(leafSpare).After(leaf.NotAfter) || !slices.Equal(leaf.ExtKeyUsage, r.usages()) {
		return false
	}
	if r.Role != "" && leaf.Subject.CommonName != r.Role {
		return false
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) != len(r.Hosts) {
		return false
	}
	for _, h := range r.Hosts {
		if leaf.VerifyHostname(h) != nil {
			return false
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: a.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}
