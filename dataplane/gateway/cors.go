package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// What browsers are told, as PostgREST tells them: its clients rely on the
// headers that they may read.
const (
	corsMethods = "GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD"
	corsSimple  = "Accept, Accept-Language, Content-Language"
	corsMaxAge  = "86400"
	// corsNames bounds the headers that a preflight may name; what is beyond is not allowed.
	corsNames = 64
)

var (
	corsExposed = []string{"Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, Range-Unit"}
	anyOrigin   = []string{"*"}
	yes         = []string{"true"}
)

// Every answer may differ by the encodings that a client takes, and by its
// origin when not all origins are alike.
var (
	varyEncoding = []string{"Accept-Encoding"}
	varyOrigin   = []string{"Accept-Encoding, Origin"}
)

// origins are those whose pages may use the API from a browser. Bearer tokens
// are no ambient credentials: an origin that is let in can do what the user's
// token in its hands lets it do anyway.
type origins struct {
	all  bool
	list []string
}

// parseOrigins reads `*` or `none`, alone, or a list like https://app.example.com; nothing is `*`.
func parseOrigins(list []string) (origins, error) {
	switch {
	case len(list) == 0 || len(list) == 1 && list[0] == "*":
		return origins{all: true}, nil
	case len(list) == 1 && list[0] == "none":
		return origins{}, nil
	}
	for _, o := range list {
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.Scheme+"://"+u.Host != o {
			return origins{}, fmt.Errorf("%q: want origins like https://app.example.com, or * or none alone", o)
		}
	}
	return origins{list: list}, nil
}

// CheckOrigins tells what is wrong with a list of origins.
func CheckOrigins(list []string) error { _, err := parseOrigins(list); return err }

// cors lets pages of other origins use the API. It stands before
// authentication, for browsers send no token ahead, and it marks every answer,
// since a page cannot even read an error that isn't marked.
func (g *Gateway) cors(c *gin.Context) {
	h := c.Writer.Header()
	h["Vary"] = varyEncoding
	if !g.origins.all && len(g.origins.list) > 0 {
		h["Vary"] = varyOrigin
	}
	origin := c.Request.Header["Origin"]
	if len(origin) != 1 {
		if g.origins.all && c.Request.Method == http.MethodOptions { // as PostgREST tells whoever asks what there is
			h["Access-Control-Allow-Origin"] = anyOrigin
		}
		return
	}
	switch {
	case g.origins.all:
		h["Access-Control-Allow-Origin"] = anyOrigin
	case slices.Contains(g.origins.list, origin[0]):
		h["Access-Control-Allow-Origin"] = origin
		h["Access-Control-Allow-Credentials"] = yes
	default:
		return // the browser refuses it
	}
	if c.Request.Method != http.MethodOptions || len(c.Request.Header["Access-Control-Request-Method"]) == 0 {
		h["Access-Control-Expose-Headers"] = corsExposed
		return
	}
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", allowedHeaders(c.Request.Header["Access-Control-Request-Headers"]))
	h.Set("Access-Control-Max-Age", corsMaxAge)
	h.Set("Content-Length", "0")
	// A preflight has no body. What stands here for one may be read differently by who is in front of us; see strict.
	if g.parting.Load() || c.Request.ContentLength != 0 && c.Request.ProtoMajor == 1 {
		h.Set("Connection", "close")
	}
	c.AbortWithStatus(http.StatusOK)
}

// allowedHeaders are those that a preflight asks for: none of them does harm.
func allowedHeaders(asked []string) string {
	names := []string{"Authorization"}
	for _, list := range asked {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); isToken(name) && len(names) < corsNames {
				names = append(names, name)
			}
		}
	}
	return strings.Join(append(names, corsSimple), ", ")
}

// isToken tells whether s can be a header's name (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		b := s[i]
		if (b < '0' || b > '9') && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}
