package bearer

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"

	"github.com/freehold-db/freehold/internal/jwks"
)

// errAddress: a tenant named an address that the node must not be used to reach.
var errAddress = errors.New("address is not public")

// special are the ranges that are no addresses of public servers, beside those net/netip knows.
var special = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "fec0::/10")

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// public tells whether an address is one that anybody may reach.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() { // loopback, link-local, multicast and :: are no global unicast
		return false
	}
	return !within(special, a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// guard makes the requests that tenants cause: a tenant chooses its issuer's
// URL, and must not reach the platform's own network with it. What counts is the
// address that is connected to, after names were resolved.
type guard struct {
	secure, plain *http.Client
}

// newGuard lets https go to public addresses and to networks; plain http to networks alone.
func newGuard(networks []netip.Prefix) *guard {
	listed := func(a netip.Addr) bool { return within(networks, a) }
	return &guard{
		secure: jwks.NewClient(check(func(a netip.Addr) bool { return public(a) || listed(a) }), nil),
		plain:  jwks.NewClient(check(listed), nil),
	}
}

func (g *guard) client(u *url.URL) (*http.Client, error) {
	switch u.Scheme {
	case "https":
		return g.secure, nil
	case "http":
		return g.plain, nil
	}
	return nil, fmt.Errorf("scheme %.20q: want https", u.Scheme)
}

// close lets idle connections go.
func (g *guard) close() {
	g.secure.CloseIdleConnections()
	g.plain.CloseIdleConnections()
}

type control func(network, address string, c syscall.RawConn) error

func check(may func(netip.Addr) bool) control {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		a := ap.Addr().Unmap().WithZone("")
		if !may(a) {
			return fmt.Errorf("%s: %w (issuer_networks may allow it)", a, errAddress)
		}
		return nil
	}
}
