package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/internal/access"
)

// refusal words a refusal for the one who sent the credential, and reports
// those that point to a leak.
func (g *Gateway) refusal(c *gin.Context, credential string, err error) *fault.Fault {
	var revoked *bearer.RevokedError
	var f *fault.Fault
	switch {
	case errors.Is(c.Request.Context().Err(), context.Canceled):
		return fault.From(context.Canceled) // the client left; whatever could not be looked up is no failure of ours
	case errors.Is(err, bearer.ErrNoKeys):
		return unavailable("keys_unavailable", "Tokens cannot be checked yet: the issuer's keys are not known", err)
	case errors.Is(err, bearer.ErrBusy):
		return unavailable(string(limit.Overloaded), "This node has more new tokens to verify than it can", err)
	case errors.Is(err, access.ErrUnknown):
		return unavailable("access_unknown", "What the tenant's credentials may do cannot be looked up now", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.From(err)
	case errors.Is(err, bearer.ErrAmbiguous):
		return nameless().WithCause(err)
	case errors.As(err, &revoked):
		g.report(c, access.ActionRevoked, revoked.Identity, "", "A revoked token was shown")
		f = fault.New(http.StatusUnauthorized, "PGRST303", "The token is revoked").WithHint("Get a new token.")
	case errors.Is(err, bearer.ErrKey), errors.Is(err, bearer.ErrKeyExpired):
		return g.keyRefusal(c, credential, err)
	default:
		f = tokenFault(credential, err)
	}
	return challenge(f).WithCause(err)
}

// suitable is what PostgREST says of every token that none of its keys verifies.
const suitable = "No suitable key or wrong key type"

// tokenFault words what is wrong with a token in PostgREST's codes and words,
// which its clients know, where it has some: 301 for what is no token that could
// be verified, 303 for claims.
func tokenFault(token string, err error) *fault.Fault {
	claims := func(message string) *fault.Fault { return fault.New(http.StatusUnauthorized, "PGRST303", message) }
	invalid := func(message, details string) *fault.Fault {
		return fault.New(http.StatusUnauthorized, "PGRST301", message).WithDetails(details)
	}
	var mistyped *bearer.ClaimTypeError
	switch parts := strings.Count(token, ".") + 1; {
	case errors.As(err, &mistyped) && mistyped.Claim == "aud":
		return claims("The JWT 'aud' claim must be a string or an array of strings")
	case errors.As(err, &mistyped):
		return claims("The JWT '" + mistyped.Claim + "' claim must be a number")
	case errors.Is(err, bearer.ErrExpired):
		return claims("JWT expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return claims("JWT not yet valid")
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return claims("JWT issued at future")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return claims("JWT not in audience")
	case errors.Is(err, bearer.ErrClaims): // PostgREST asks for nothing more
		return claims("The token's claims are refused").
			WithHint("It must be of an accepted issuer, with a time of expiry, and claim a tenant and a role of it.")
	case parts != 3:
		return invalid("Expected 3 parts in JWT; got "+strconv.Itoa(parts), "")
	case errors.Is(err, bearer.ErrAlgorithm):
		return invalid("Wrong or unsupported encoding algorithm", "Its alg is none of those that are accepted of the issuer")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return invalid(suitable, "No suitable key was found to decode the JWT")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return invalid(suitable, "None of the keys was able to decode the JWT")
	}
	return invalid("JWT couldn't be decoded", "")
}

// keyRefusal is for API keys. One that is none at all is nobody's, and not reported.
func (g *Gateway) keyRefusal(c *gin.Context, text string, err error) *fault.Fault {
	message := "The API key is not valid: there is no such key (any more)"
	if errors.Is(err, bearer.ErrKeyExpired) {
		message = "The API key has expired"
	}
	if tenant, id, bad := access.ParseKey(text); bad == nil {
		g.report(c, access.ActionKeyRefused, &bearer.Identity{Tenant: tenant, Subject: "key/" + id}, "", message)
	}
	return challenge(fault.New(http.StatusUnauthorized, "api_key_invalid", message).WithHint("Make a new key for the tenant.")).WithCause(err)
}

func challenge(f *fault.Fault) *fault.Fault {
	f.Header = http.Header{"Www-Authenticate": {`Bearer error="invalid_token", error_description="` + strings.ReplaceAll(f.Message, `"`, `'`) + `"`}}
	return f
}

func unavailable(code, message string, err error) *fault.Fault {
	f := fault.New(http.StatusServiceUnavailable, code, message).WithHint("Nothing was executed: try again.")
	f.RetryAfter = time.Second
	return f.WithCause(err)
}
