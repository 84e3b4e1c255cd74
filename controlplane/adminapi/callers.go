package adminapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/problem"
)

// maxCredential bounds a credential, in bytes; what comes from an OpenID Connect provider is a few kilobytes.
const maxCredential = 12 << 10

const actionSignIn = "admin.signin"

// authenticate tells who calls. A token travels in the Authorization header and
// nowhere else. An address that keeps sending unknown ones is sent away before
// its next is looked at, unless that one was good before.
func (a *API) authenticate(g *gin.Context) (Principal, error) {
	headers := g.Request.Header.Values("Authorization")
	scheme, token, _ := strings.Cut(strings.Join(headers, ","), " ")
	if len(headers) != 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Principal{}, problem.New(http.StatusUnauthorized, "no_token", "the request carries no bearer token",
			"send Authorization: Bearer TOKEN; tenant-ops takes it from the dev fleet's dev.json, from TENANT_OPS_TOKEN, or from tenant-ops login")
	}
	from := host(g.Request.RemoteAddr)
	digest := sha256.Sum256([]byte(token))
	if !a.strangers.mayTry(from, digest) {
		return Principal{}, problem.New(http.StatusTooManyRequests, "too_many_refusals", "too many unknown credentials came from this address",
			"wait as long as Retry-After says, and check the token")
	}
	ctx, cancel := context.WithTimeout(g.Request.Context(), requestFor)
	defer cancel()
	who, err := Principal{}, authority.ErrUnknown
	if len(token) <= maxCredential {
		who, err = a.Callers.Authenticate(ctx, token, from)
	}
	if err == nil {
		a.strangers.good(digest)
		return who, nil
	}
	p, refused := refusedCredential(err)
	if !refused {
		return Principal{}, err
	}
	count, record := a.strangers.failed(from)
	a.Log.WarnContext(ctx, "credential refused", "address", from, "code", p.Code, "request_id", g.GetString(keyRequestID), "error", err)
	if record {
		c := &call{object: actionSignIn, actor: catalog.Actor{Name: "unknown", RequestID: g.GetString(keyRequestID), Address: from}}
		a.recordRefusal(ctx, actionSignIn, c, p, count)
	}
	return Principal{}, p
}

// refusedCredential is what a stranger is told; false: it is no refusal.
func refusedCredential(err error) (*problem.Problem, bool) {
	switch {
	case errors.Is(err, authority.ErrExpired):
		return problem.New(http.StatusUnauthorized, "token_expired", "the bearer token has expired", "sign in again (tenant-ops login), or have a new access token made"), true
	case errors.Is(err, authority.ErrRevoked):
		return problem.New(http.StatusUnauthorized, "token_revoked", "the bearer token was revoked", "have a new access token made (tenant-ops access-token create)"), true
	case errors.Is(err, authority.ErrUnknown):
		return problem.New(http.StatusUnauthorized, "unknown_token", "the bearer token is none of this control plane's",
			"check that the token and the URL belong to the same fleet; the control plane's tokens_file lists the tokens' hashes"), true
	}
	return nil, false
}

const (
	strangerBurst = 20              // unknown credentials in a row
	strangerEvery = 3 * time.Second // and then one in this time
	strangerWait  = 3               // seconds that Retry-After says
	// One record for the log in this time for each address, and strangerRecords of all together in a row.
	recordEvery     = time.Minute
	strangerRecords = 30
)

// strangers bounds how often an address may send unknown credentials, and
// their records in the audit log. Credentials that were good lately may always be tried: others
// behind the same address must not be able to lock their bearers out. That
// they may be tried says nothing of whether they are good still.
type strangers struct {
	mu    sync.Mutex
	seen  *lru.Cache[string, *stranger]
	known *lru.Cache[[sha256.Size]byte, time.Time]
	all   *rate.Limiter
	burst int
	every time.Duration
}

type stranger struct {
	tries    *rate.Limiter
	recorded time.Time
	since    int // refusals that were not recorded
}

const (
	strangersSeen = 10_000
	knownFor      = time.Hour
)

func newStrangers(burst int) *strangers {
	s := &strangers{burst: burst, every: strangerEvery, all: rate.NewLimiter(rate.Every(time.Second), strangerRecords)}
	s.seen, _ = lru.New[string, *stranger](strangersSeen) // fails for a size below 1 only
	s.known, _ = lru.New[[sha256.Size]byte, time.Time](strangersSeen)
	return s
}

// mayTry tells whether a credential from this address is looked at.
func (s *strangers) mayTry(from string, digest [sha256.Size]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.known.Get(digest); ok && time.Since(at) < knownFor {
		return true
	}
	one, ok := s.seen.Get(network(from))
	return !ok || one.tries.Tokens() >= 1
}

func (s *strangers) good(digest [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.Add(digest, time.Now())
}

// failed counts an unknown credential, and tells whether to record it, with so
// many others of the address that were not.
func (s *strangers) failed(from string) (more int, record bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.seen.Get(network(from))
	if !ok {
		one = &stranger{tries: rate.NewLimiter(rate.Every(s.every), s.burst)}
		s.seen.Add(network(from), one)
	}
	one.tries.Allow()
	now := time.Now()
	if now.Sub(one.recorded) < recordEvery || !s.all.AllowN(now, 1) {
		one.since = min(one.since+1, math.MaxInt32)
		return 0, false
	}
	more, one.since, one.recorded = one.since, 0, now
	return more, true
}

// network is what counts as one address: a /64 of IPv6 is one customer's.
func network(from string) string {
	a, err := netip.ParseAddr(from)
	if err != nil {
		return from
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return from
	}
	return p.String()
}

// refusals bounds what one caller's forbidden reads put into the audit log.
type refusals struct {
	mu    sync.Mutex
	all   *lru.Cache[string, *callerRefusals]
	every time.Duration
}

type callerRefusals struct {
	records *rate.Limiter
	since   int
}

const refusalBurst = 20 // records of one caller in a row, then one every few seconds

func newRefusals() *refusals {
	r := &refusals{every: strangerEvery}
	r.all, _ = lru.New[string, *callerRefusals](strangersSeen)
	return r
}

func (r *refusals) record(name string) (more int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, there := r.all.Get(name)
	if !there {
		one = &callerRefusals{records: rate.NewLimiter(rate.Every(r.every), refusalBurst)}
		r.all.Add(name, one)
	}
	if !one.records.Allow() {
		one.since = min(one.since+1, math.MaxInt32)
		return 0, false
	}
	more, one.since = one.since, 0
	return more, true
}

// recordForbidden puts a read that was not allowed into the audit log. Refused
// changes are recorded one by one, since each was meant to change something.
func (a *API) recordForbidden(ctx context.Context, c *call, p *problem.Problem) {
	if more, ok := a.refusals.record(c.who.Name); ok {
		a.recordRefusal(ctx, "read."+c.verb.name, c, p, more)
	}
}
