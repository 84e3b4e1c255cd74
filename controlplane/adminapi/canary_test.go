package adminapi_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
)

// secretText finds what an answer shows once: passwords, tokens, API keys.
var secretText = regexp.MustCompile(`"(?:password|token|key)":\s*"([^"]{8,})"`)

// auditText is everything that the audit log has or is about to have, as text.
func (f *fleet) auditText() string {
	f.t.Helper()
	require.NoError(f.t, f.Audit.Anchor(testContext(f.t)))
	export := f.ask(adminapi.RoleViewer, "GET", "/v1/audit/export", "")
	require.Equal(f.t, http.StatusOK, export.StatusCode)
	return string(export.body)
}

// auditHoldsNoSecret makes sure that nothing that was given out, or given to us, is in the audit log.
func (f *fleet) auditHoldsNoSecret(also ...string) {
	f.t.Helper()
	text := f.auditText()
	require.NotEmpty(f.t, f.secrets)
	for _, role := range admintest.Roles {
		also = append(also, admintest.Token(role))
	}
	for s := range f.secrets {
		also = append(also, s)
	}
	for _, s := range also {
		require.NotContains(f.t, text, s)
	}
}

// Whatever secret or row is put where it does not belong, the audit log has none of it.
func TestRefusalsKeepNoSecret(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	const canary = "canary-7f3a91"
	bodies := []string{
		`{"password":"canary-7f3a91","secret":"canary-7f3a91","token":"canary-7f3a91","rows":[{"email":"canary-7f3a91"}]}`,
		`{"id":"s9","postgres":{"host":"unfit.example","port":1},"bouncer":{"host":"h","port":2},"admin":{"user":"a","password":"canary-7f3a91"},"bouncer_admin":{"user":"b","password":"canary-7f3a91"}}`,
		`canary-7f3a91`,
		`{"display_name":{"canary-7f3a91":1}}`,
	}
	fill := strings.NewReplacer(":tenant", "acme", ":shard", "s1", ":operation", "0190a0a0-0000-7000-8000-000000000000", ":plan", "basic", ":key", "0123456789ab",
		":role", "clerk", ":session", "0190a0a0-0000-7000-8000-000000000001", ":token", "0190a0a0-0000-7000-8000-000000000002", ":binding", "0190a0a0-0000-7000-8000-000000000003", ":copy", "0190a0a0-0000-7000-8000-000000000004")
	asked := 0
	for _, v := range adminapi.Verbs() {
		if v.Path == "/v1/audit/export" || strings.HasSuffix(v.Path, "/watch") {
			continue // they only read, at length
		}
		path := fill.Replace(v.Path)
		for i, body := range bodies {
			headers := header{"Idempotency-Key": fmt.Sprintf("canary-7f3a91-%d", i), "X-Canary": canary, "Cookie": "session=" + canary, "If-Match": canary}
			if i == 0 {
				delete(headers, "Idempotency-Key")
				delete(headers, "If-Match")
			}
			if v.Action == "" {
				if body = ""; i > 1 {
					break // a read has no body
				}
			}
			for _, as := range []string{admintest.Token(adminapi.RoleAdmin), admintest.Token(adminapi.RoleViewer), canary + "-token-of-nobody"} {
				if i == 0 {
					f.raw(as, v.Method, path+"?secret="+canary, body, headers)
				}
				f.raw(as, v.Method, path, body, headers)
				asked++
			}
		}
	}
	require.Greater(t, asked, 300)
	text := f.auditText()
	require.Contains(t, text, "refused")
	require.NotContains(t, text, canary)
	require.NotContains(t, f.Log.String(), canary)
}

// raw asks without holding the answer against the document.
func (f *fleet) raw(token, method, path, body string, h header) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(testContext(f.t), method, f.URL+path, strings.NewReader(body))
	require.NoError(f.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	for k, v := range h {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	require.NoError(f.t, resp.Body.Close())
}
