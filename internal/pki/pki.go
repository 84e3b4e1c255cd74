// Package pki is a small certificate authority in a directory, for the
// development fleet and for tests: one root, server certificates for hosts and
// client certificates for roles. Production has an authority of its own.
//
// Import law: pki imports no other package of this module.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	rootLife  = 10 * 365 * 24 * time.Hour
	leafLife  = 90 * 24 * time.Hour
	leafSpare = leafLife / 3 // what is left of a certificate's life when it is renewed
	rootSpare = leafLife     // no certificate outlives its root
	clockSkew = time.Hour    // how far behind a peer's clock may be
)

// Authority issues certificates. Its methods are safe for concurrent use, by
// several processes too.
type Authority struct {
	dir  string
	now  func() time.Time
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	issued map[string]Request // what is to be renewed, by the path of the certificate
}

// Open reads the authority in dir, or makes it: the root is made once, and anew
// when it is about to end, which ends trust in whatever the old one issued.
// ca.pem holds its key and is nobody else's to read.
func Open(dir string) (*Authority, error) {
	a := &Authority{dir: dir, now: time.Now, issued: map[string]Request{}}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

func (a *Authority) open() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	file := filepath.Join(a.dir, "ca.pem")
	text, err := os.ReadFile(file)
	if err == nil {
		if a.cert, a.key, err = parse(text, text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if a.cert == nil || a.now().Add(rootSpare).After(a.cert.NotAfter) {
		if text, err = a.makeRoot(); err != nil {
			return err
		}
		if err := replace(file, text, nil); err != nil {
			return err
		}
	}
	return replace(a.Root(), a.RootPEM(), nil)
}

func (a *Authority) makeRoot() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl, err := a.template("Freehold development authority", rootLife)
	if err != nil {
		return nil, err
	}
	// Two roots of one name are told apart by their serial number.
	tmpl.Subject.SerialNumber = tmpl.SerialNumber.Text(16)
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.MaxPathLenZero = true, true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	secret, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	a.cert, a.key = cert, key
	return append(certPEM(der), secret...), nil
}

func (a *Authority) template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Freehold development"}, CommonName: name},
		NotBefore: a.now().Add(-clockSkew), NotAfter: a.now().Add(life)}, nil
}

// Root is the path of the root's certificate, for those who verify; it is no secret.
func (a *Authority) Root() string { return filepath.Join(a.dir, "ca.crt") }

// RootPEM is the root's certificate.
func (a *Authority) RootPEM() []byte { return certPEM(a.cert.Raw) }

// Pool holds the root alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parse reads a pair of certificate and key that belong together.
func parse(cert, key []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, nil, err
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("a key of type %T", pair.PrivateKey)
	}
	return pair.Leaf, private, nil
}

// lock keeps other processes away from the directory's files; the kernel gives
// it back if we die.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// replace writes a file of mode 0600 whole or not at all; own, if given, hands
// it to another account before it has its name.
func replace(path string, text []byte, own func(path string) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone when all went well
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Close())
	if err == nil && own != nil {
		err = own(tmp.Name())
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
