package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/shardmap"
)

// Sources of a tenant's name, for [Naming.From].
const (
	FromClaim     = "claim"
	FromSubdomain = "subdomain"
	FromHeader    = "header"
)

// Naming says how a request names its tenant. Whatever names one must be the
// tenant that the credential is good for; the order decides which of them
// picks the tenant when a token is good for several.
type Naming struct {
	// From lists the sources looked at, the first that names a tenant picks it. Default: claim, subdomain, header.
	From []string
	// Domain, when set, makes `<tenant>.<Domain>` a name. Header is the one that may name a tenant; default X-Tenant-ID.
	Domain, Header string

	canonical string // Header as net/http calls it
}

// Check refuses sources that do not exist or come twice, and a header that is none.
func (n Naming) Check() error {
	for i, s := range n.From {
		if s != FromClaim && s != FromSubdomain && s != FromHeader || slices.Contains(n.From[:i], s) {
			return fmt.Errorf("tenant source %.20q: want each of %s, %s, %s at most once", s, FromClaim, FromSubdomain, FromHeader)
		}
	}
	if n.Header != "" && (strings.ContainsAny(n.Header, " :\r\n\t") || slices.Contains([]string{"Authorization", "Apikey", "Host"}, textproto.CanonicalMIMEHeaderKey(n.Header))) {
		return errors.New("tenant header: not a name of a header, or one of another meaning")
	}
	return nil
}

func (n Naming) withDefaults() Naming {
	if len(n.From) == 0 {
		n.From = []string{FromClaim, FromSubdomain, FromHeader}
	}
	if n.Header == "" {
		n.Header = "X-Tenant-ID"
	}
	n.canonical = textproto.CanonicalMIMEHeaderKey(n.Header)
	n.Domain = strings.ToLower(strings.Trim(n.Domain, "."))
	return n
}

// names are what a request calls its tenant beside the credential, in order. At most two of them differ.
type names struct {
	list [2]string
	n    int
}

func (n Naming) of(r *http.Request) (all names) {
	for _, source := range n.From {
		var name string
		ok := false
		switch source {
		case FromHeader:
			if values := r.Header[n.canonical]; len(values) == 1 {
				name, ok = values[0], true
			} else if len(values) > 1 {
				name, ok = strings.Join(values, ","), true // no tenant's
			}
		case FromSubdomain:
			if n.Domain != "" {
				name, ok = subdomain(r.Host, n.Domain)
			}
		}
		if ok {
			all.list[all.n] = name
			all.n++
		}
	}
	return all
}

// picked is the tenant that the first of the names is, if it is one at all.
func (a names) picked() shardmap.TenantID {
	if a.n == 0 {
		return ""
	}
	t, err := shardmap.ParseTenantID(a.list[0])
	if err != nil {
		return ""
	}
	return t
}

// against returns the first name that is not the tenant's.
func (a names) against(t shardmap.TenantID) (name string, found bool) {
	for _, name := range a.list[:a.n] {
		if name != string(t) {
			return name, true
		}
	}
	return "", false
}

// unnamed tells whether nothing that is looked at says for which tenant the
// request is: the token's claim does not count, and the credential is no tenant's own.
func (n Naming) unnamed(id *bearer.Identity, all names) bool {
	return all.n == 0 && !id.Own && !slices.Contains(n.From, FromClaim)
}

// subdomain is what host has in front of domain, and whether it has anything there.
func subdomain(host, domain string) (string, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	name, ok := strings.CutSuffix(host, "."+domain)
	return name, ok
}
