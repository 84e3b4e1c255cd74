// Package natslink is how a part of the fleet is connected to NATS: one home
// for addresses, keys, certificates, and for what is done when NATS is away.
//
// Import law: of this module, natslink imports internal/natsrole and internal/clienttls only.
package natslink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/natsrole"
)

// Config says where NATS is and who we are there.
type Config struct {
	// URL may name several servers, separated by commas: nats://host:port, or
	// tls://host:port, where nothing is said without TLS. A development server's
	// token may be part of it; then it is a secret.
	URL string
	// SeedFile holds our NKey's seed; empty: we have none.
	SeedFile string
	// TLS says whom we believe and what we show; with a CA nothing is said without TLS.
	TLS clienttls.Files
}

var schemes = []string{"nats", "tls"}

// CheckURL refuses what is no list of NATS servers.
func CheckURL(list string) error {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
			return errors.New("want nats://host:port or tls://host:port, or several with commas between") // no part of it is shown: it may hold a token
		}
	}
	return nil
}

// Connect returns at once, whether NATS is there or not: the connection is
// made, and made again whenever it is lost, in the background. It fails only
// for what can never work: a URL, key or certificate that cannot be read.
// options come on top of ours.
func Connect(cfg Config, role natsrole.Role, name string, log *slog.Logger, options ...nats.Option) (*nats.Conn, error) {
	ours := []nats.Option{
		nats.Name(name),
		nats.CustomInboxPrefix(role.Inbox()),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, time.Second),
		nats.Timeout(2 * time.Second),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Warn("NATS", "subject", subject, "error", err)
		}),
		nats.ReconnectErrHandler((&trouble{log: log}).tell),
	}
	if cfg.SeedFile != "" {
		key, err := nats.NkeyOptionFromSeed(cfg.SeedFile)
		if err != nil {
			return nil, fmt.Errorf("NATS: the key in %s: %w", cfg.SeedFile, err)
		}
		ours = append(ours, key)
	}
	if !cfg.TLS.Empty() || strings.Contains(cfg.URL, "tls://") {
		secure, err := clienttls.Load(cfg.TLS)
		if err != nil {
			return nil, fmt.Errorf("NATS: %w", err)
		}
		secure.MinVersion = tls.VersionTLS12
		ours = append(ours, nats.Secure(secure))
	} else if host := exposed(cfg.URL); host != "" {
		log.Warn("what is said to NATS may be heard and changed on the way: use tls://, or a CA", "host", host)
	}
	nc, err := nats.Connect(cfg.URL, append(ours, options...)...)
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	return nc, nil
}

// exposed is the first host of the list that is not this machine.
func exposed(list string) string {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil {
			continue // it was refused, or is about to be
		}
		if ip := net.ParseIP(u.Hostname()); (ip == nil || !ip.IsLoopback()) && !strings.EqualFold(u.Hostname(), "localhost") {
			return u.Hostname()
		}
	}
	return ""
}

// againAfter is when the same trouble is worth another line.
const againAfter = time.Minute

// trouble says why there is no connection: a key that NATS does not know, a
// certificate that ended, another's root. Each is tried again for ever, without a word of its own.
type trouble struct {
	log  *slog.Logger
	last string
	at   time.Time
}

// tell is called by one goroutine at a time.
func (t *trouble) tell(_ *nats.Conn, err error) {
	if err == nil || err.Error() == t.last && time.Since(t.at) < againAfter {
		return
	}
	t.last, t.at = err.Error(), time.Now()
	t.log.Warn("NATS cannot be reached, or refuses us; it is tried again", "error", err)
}

// Seed makes the NKey of which file holds the seed (mode 0600), unless it is
// there, and returns its public part, by which a server knows it.
func Seed(file string) (public string, err error) {
	seed, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		seed, err = newSeed(file)
	}
	if err != nil {
		return "", fmt.Errorf("NKey: %w", err)
	}
	key, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil {
		return "", fmt.Errorf("NKey in %s: %w", file, err)
	}
	defer key.Wipe()
	return key.PublicKey()
}

func newSeed(file string) ([]byte, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	seed = append(seed, '\n')
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // made with mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // a second name by then
	_, err = tmp.Write(seed)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), file); err != nil { // not over another's
		if errors.Is(err, fs.ErrExist) {
			return os.ReadFile(file)
		}
		return nil, err
	}
	return seed, nil
}
