package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/shardmap"
)

// asked is a request's context with who asks; one small layer rather than gin's map.
type asked struct {
	context.Context
	id *bearer.Identity
}

type identityKey struct{}

func (a asked) Value(key any) any {
	if key == (identityKey{}) {
		return a.id
	}
	return a.Context.Value(key)
}

// authenticate binds the request to the tenant of its token, or refuses it.
func (g *Gateway) authenticate(c *gin.Context) {
	r := c.Request
	token, err := bearerToken(r)
	if err != nil {
		g.watch.refused.WithLabelValues("no_token").Inc()
		fault.Write(c, err)
		return
	}
	id, err := g.cfg.Verifier.Verify(r.Context(), token)
	if err != nil {
		f := tokenFault(err)
		g.watch.refused.WithLabelValues(f.Code).Inc()
		fault.Write(c, f)
		return
	}
	if claim, agrees := g.tenantClaims(r, id.Tenant); !agrees {
		g.watch.refused.WithLabelValues("tenant_mismatch").Inc()
		c.Request = r.WithContext(asked{r.Context(), id})
		g.watch.crossing(c, id, claim)
		fault.Write(c, fault.New(http.StatusForbidden, "tenant_mismatch", "The token is of another tenant than the request names").
			WithHint("Leave the subdomain and X-Tenant-ID out, or make them the token's tenant."))
		return
	}
	ctx, cancel := context.WithTimeout(g.cfg.Bind(r.Context(), id), g.cfg.RequestFor)
	defer cancel()
	c.Request = r.WithContext(asked{ctx, id})
	c.Next()
}

// identity is who asks, or nil before that is known.
func identity(c *gin.Context) *bearer.Identity {
	id, _ := c.Request.Context().Value(identityKey{}).(*bearer.Identity)
	return id
}

// bearerToken is the one token of the request. With two of them, whoever stands
// in front of us may have checked the other.
func bearerToken(r *http.Request) (string, error) {
	values := r.Header["Authorization"]
	if len(values) == 1 {
		scheme, token, ok := strings.Cut(values[0], " ")
		if token = strings.TrimSpace(token); ok && token != "" && strings.EqualFold(scheme, "Bearer") {
			return token, nil
		}
	}
	f := fault.New(http.StatusUnauthorized, "PGRST302", "The request has no bearer token").
		WithHint("Send one header: Authorization: Bearer <token>.")
	if len(values) > 1 {
		f = fault.New(http.StatusUnauthorized, "PGRST302", "The request has several Authorization headers").WithHint("Send one.")
	}
	return "", f
}

// tokenFault words a refusal for the one who sent the token. Codes are
// PostgREST's, which its clients know: 301 not valid, 303 claims refused.
func tokenFault(err error) *fault.Fault {
	var f *fault.Fault
	switch {
	case errors.Is(err, bearer.ErrNoKeys):
		f = fault.New(http.StatusServiceUnavailable, "keys_unavailable", "Tokens cannot be checked yet: the issuer's keys are not known").
			WithHint("Nothing was executed: try again.")
		f.RetryAfter = time.Second
		return f.WithCause(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.From(err)
	case errors.Is(err, bearer.ErrExpired):
		f = fault.New(http.StatusUnauthorized, "PGRST303", "JWT expired").WithHint("Get a new token.")
	case errors.Is(err, bearer.ErrClaims):
		f = fault.New(http.StatusUnauthorized, "PGRST303", "The token's claims are refused").
			WithHint("It must be for this audience, of the accepted issuer, valid now, and claim a tenant and a role of it.")
	default:
		f = fault.New(http.StatusUnauthorized, "PGRST301", "The token is not valid").
			WithHint("It must be a JWT signed by the accepted issuer.")
	}
	f.Header = http.Header{"Www-Authenticate": {`Bearer error="invalid_token", error_description="` + f.Message + `"`}}
	return f.WithCause(err)
}

// tenantClaims tells whether what else names a tenant agrees with the token's,
// and returns the first claim that does not.
func (g *Gateway) tenantClaims(r *http.Request, tenant shardmap.TenantID) (claim string, agrees bool) {
	if values := r.Header["X-Tenant-Id"]; len(values) > 0 {
		if len(values) > 1 {
			return strings.Join(values, ","), false
		}
		if values[0] != string(tenant) {
			return values[0], false
		}
	}
	if g.cfg.Domain != "" {
		if name, ok := subdomain(r.Host, g.cfg.Domain); ok && name != string(tenant) {
			return name, false
		}
	}
	return "", true
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
