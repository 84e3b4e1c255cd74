package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/secret"
)

// The files of a certificate.
const (
	CertificateFile = "server.pem" // certificate, those between it and its root, and private key
	AuthorityFile   = "ca.pem"     // the root
)

const (
	lookAgain = time.Minute // whether it is time, for a clock may be set and a machine sleep
	// renewGap is between two certificates: by Vault's clock, or for one that is
	// good for a moment only, the next may be due at once.
	renewGap = time.Second
)

// Certificate is one from Vault's PKI engine that is kept in files: issued at
// the start, and again when two thirds of its time are over. The private key
// is made here and never sent.
type Certificate struct {
	// Role of the PKI engine that signs it; empty: there is none. Mount is where the engine is.
	Role  string `yaml:"role" env:"FREEHOLD_VAULT_CERT_ROLE"`
	Mount string `yaml:"mount" env:"FREEHOLD_VAULT_CERT_MOUNT"`
	// Names are the host names and addresses it is for; the first is the common name, too.
	Names []string `yaml:"names" env:"FREEHOLD_VAULT_CERT_NAMES"`
	// Dir is the directory of its files, CertificateFile and AuthorityFile.
	Dir string `yaml:"dir" env:"FREEHOLD_VAULT_CERT_DIR"`
	// TTL is how long it is to be good for.
	TTL time.Duration `yaml:"ttl" env:"FREEHOLD_VAULT_CERT_TTL"`
}

func (c *Certificate) defaults() {
	config.Default(&c.Mount, "pki")
	config.Default(&c.TTL, 72*time.Hour)
	if len(c.Names) == 0 {
		c.Names = nil
	}
}

func (c *Certificate) check(faults *config.Faults) {
	faults.Check(c.Role == "" || len(c.Names) > 0 && c.Dir != "", "vault: certificate: names, dir: for whom, and where to?")
	faults.Check(isPath(c.Mount) && (c.Role == "" || isPath(c.Role)), "vault: certificate: mount, role: want words joined by slashes")
	faults.Check(c.TTL >= time.Second, "vault: certificate: ttl: want a second at least")
}

// ObtainCertificate returns when the configured certificate is in its files
// and good for a while, and keeps it so until the client is closed; without one
// in the configuration it does nothing. While Vault is away, what is there
// serves until it ends; if nothing is there, it waits, within ctx.
func (c *Client) ObtainCertificate(ctx context.Context) error {
	cert := &c.cfg.Certificate
	if cert.Role == "" {
		return nil
	}
	renewAt, err := cert.renewAt()
	if err != nil { // none, or none that is good
		for pause := firstRetry; ; pause = min(2*pause, longestRetry) {
			if renewAt, err = c.issue(ctx, cert); err == nil {
				break
			}
			if !errors.Is(err, secret.ErrUnavailable) { // asking again changes nothing
				return fmt.Errorf("certificate: %w", err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("certificate: %w", err)
			case <-time.After(pause/2 + mathrand.N(pause/2)):
			}
		}
	}
	c.side.Go(func() { c.renew(cert, renewAt) })
	return nil
}

func (c *Client) renew(cert *Certificate, at time.Time) {
	for pause := firstRetry; ; {
		select {
		case <-c.life.Done():
			return
		case <-time.After(min(time.Until(at), lookAgain)):
		}
		if time.Now().Before(at) {
			continue
		}
		next, err := c.issue(c.life, cert)
		if err != nil {
			if pause == firstRetry {
				c.log.Warn("the certificate is not renewed, trying on", "error", err)
			}
			at = time.Now().Add(pause/2 + mathrand.N(pause/2))
			pause = min(2*pause, time.Minute)
			continue
		}
		pause, at = firstRetry, next
		if soonest := time.Now().Add(renewGap); at.Before(soonest) {
			at = soonest
		}
		c.log.Info("certificate renewed", "next", at)
	}
}

// issue has a new certificate signed and puts it in place; it says when it is to be renewed.
func (c *Client) issue(ctx context.Context, cert *Certificate) (time.Time, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return time.Time{}, err
	}
	request, err := cert.request(key)
	if err != nil {
		return time.Time{}, err
	}
	var signed *api.Secret
	err = c.do(ctx, true, func(ctx context.Context, at *api.Client) (err error) {
		signed, err = at.Logical().WriteWithContext(ctx, cert.Mount+"/sign/"+cert.Role, map[string]any{
			"csr": request, "common_name": cert.Names[0], "ttl": cert.TTL.String(),
			"alt_names": strings.Join(cert.hosts(), ","), "ip_sans": strings.Join(cert.addresses(), ","),
		})
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return time.Time{}, err
	}
	chain, root := []string{text(signed, "certificate")}, text(signed, "issuing_ca")
	if above, _ := signed.Data["ca_chain"].([]any); len(above) > 0 { // from the signer's up to the root's
		for _, ca := range above[:len(above)-1] {
			chain = append(chain, fmt.Sprint(ca))
		}
		root = fmt.Sprint(above[len(above)-1])
	}
	whole := strings.Join(chain, "\n") + "\n" + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err := write(filepath.Join(cert.Dir, AuthorityFile), root+"\n"); err != nil {
		return time.Time{}, err
	}
	if err := write(filepath.Join(cert.Dir, CertificateFile), whole); err != nil {
		return time.Time{}, err
	}
	return cert.renewAt()
}

func (c *Certificate) request(key *ecdsa.PrivateKey) (string, error) {
	request := x509.CertificateRequest{Subject: pkix.Name{CommonName: c.Names[0]}, DNSNames: c.hosts()}
	for _, a := range c.addresses() {
		request.IPAddresses = append(request.IPAddresses, net.ParseIP(a))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &request, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

func (c *Certificate) hosts() (hosts []string) {
	for _, n := range c.Names {
		if net.ParseIP(n) == nil {
			hosts = append(hosts, n)
		}
	}
	return hosts
}

func (c *Certificate) addresses() (addresses []string) {
	for _, n := range c.Names {
		if net.ParseIP(n) != nil {
			addresses = append(addresses, n)
		}
	}
	return addresses
}

// renewAt reads from the file when its certificate has a third of its time
// left; an error if there is none, if it is for other names, or that late.
func (c *Certificate) renewAt() (time.Time, error) {
	file := filepath.Join(c.Dir, CertificateFile)
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return time.Time{}, err
	}
	leaf := pair.Leaf
	for _, name := range c.Names {
		if err := leaf.VerifyHostname(name); err != nil {
			return time.Time{}, err
		}
	}
	at := leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
	if time.Now().After(leaf.NotAfter) {
		return time.Time{}, fmt.Errorf("the certificate in %s ended", file)
	}
	return at, nil
}

// write replaces a file as a whole: a reader sees the old or the new.
func write(file, content string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temp := file + ".new"
	if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, file)
}
