package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// proxies are those in front of us whose word about a client counts.
//
// Whatever says who a client is, how it came and which request this is, is
// anybody's to write. A forged X-Forwarded-For would hide an attack from the
// audit log, a forged X-Request-Id would mix somebody else's lines up with
// one's own, and a forged traceparent would hang spans into another's trace or
// have everything recorded. So these headers count from the addresses that the
// operator named, and are dropped from everybody else: SQL, which can read a
// request's headers, isn't deceived either.
type proxies []netip.Prefix

// parseProxies reads addresses and CIDR prefixes.
func parseProxies(list []string) (proxies, error) {
	var all proxies
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, fmt.Errorf("%q: want an IP address or a prefix like 10.0.0.0/8", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// CheckProxies tells what is wrong with a list of addresses and prefixes.
func CheckProxies(list []string) error { _, err := parseProxies(list); return err }

func (p proxies) include(a netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// settle makes r say what is known of its client, and nothing that only the
// client says: RemoteAddr is the client's address as far as proxies can be
// believed, Host the one that they were asked for, and the headers about both
// are in agreement with that, or gone. It tells whether r came through a proxy.
func (p proxies) settle(r *http.Request) (through bool) {
	if len(p) > 0 {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		through = err == nil && p.include(peer.Addr().Unmap())
	}
	var from, proto, host string
	if through {
		from = p.client(r.Header["X-Forwarded-For"])
		proto = last(r.Header["X-Forwarded-Proto"])
		host = last(r.Header["X-Forwarded-Host"])
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" || name == "X-Real-Ip" {
			delete(r.Header, name)
		}
	}
	if !through {
		return false
	}
	if from != "" {
		r.Header["X-Forwarded-For"] = []string{from}
		r.RemoteAddr = net.JoinHostPort(from, "0")
	}
	if proto == "http" || proto == "https" {
		r.Header["X-Forwarded-Proto"] = []string{proto}
	}
	if isHost(host) {
		r.Header["X-Forwarded-Host"] = []string{host}
		r.Host = host
	}
	return true
}

// client is the address nearest to us that is no proxy's. What stands further
// left, the client may have written itself.
func (p proxies) client(values []string) (from string) {
	hops := strings.Split(strings.Join(values, ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		a, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			ap, err := netip.ParseAddrPort(hop)
			if err != nil {
				return from
			}
			a = ap.Addr()
		}
		a = a.Unmap().WithZone("")
		from = a.String()
		if !p.include(a) {
			return from
		}
	}
	return from
}

// last is the value that the nearest proxy added.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	v := values[len(values)-1]
	return strings.TrimSpace(v[strings.LastIndexByte(v, ',')+1:])
}

// isHost tells whether s can be a host with or without port.
func isHost(s string) bool {
	for i := range len(s) {
		if b := s[i]; !harmless(s[i:i+1]) && b != ':' && b != '[' && b != ']' {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// clientAddress is where a settled request comes from: for policies, the audit
// log and the node's own alike. It is invalid when that is no IP address.
func clientAddress(r *http.Request) netip.Addr {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	return from.Addr().Unmap().WithZone("")
}

// clientText is clientAddress for people to read, empty when there is none.
func clientText(r *http.Request) string {
	if a := clientAddress(r); a.IsValid() {
		return a.String()
	}
	return ""
}
