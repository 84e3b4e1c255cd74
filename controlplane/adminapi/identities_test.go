package adminapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/breakglass"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/shardmap"
)

// corp is an issuer that nobody signs in at.
var corp = identity.Issuer{Name: "corp", URL: "https://id.corp.example", JWKSURL: "https://127.0.0.1:1/jwks", ClientID: "tenant-ops"}

func (f *fleet) everyIdentityVerb() {
	t := f.t
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleOperator, "PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"prod"}}`).StatusCode)
	page := into[api.Page[api.Tenant]](t, f.ask(adminapi.RoleViewer, "GET", "/v1/tenants?label=env=prod", ""))
	require.Len(t, page.Items, 1)

	token := f.accessToken("ci", api.Grant{Role: "operator", Labels: map[string]string{"env": "prod"}, Verbs: []string{"getTenant", "whoami"}})
	me := into[api.Identity](t, f.askAs(token.Text, "GET", "/v1/whoami", ""))
	require.Equal(t, "access token", me.Method)
	require.Equal(t, token.ID, me.AccessToken)
	require.Equal(t, "token:ci/"+token.ID, me.Name)
	list := f.ask(adminapi.RoleAdmin, "GET", "/v1/access-tokens", "")
	require.NotContains(t, string(list.body), token.Text)
	require.NotContains(t, string(list.body), token.Text[len(token.Text)-20:])
	require.Len(t, into[api.Page[api.AccessToken]](t, list).Items, 1)
	require.Equal(t, "revoked", into[api.AccessToken](t, f.ask(adminapi.RoleAdmin, "DELETE", "/v1/access-tokens/"+token.ID, "")).State)

	b := into[api.Binding](t, f.ask(adminapi.RoleAdmin, "POST", "/v1/bindings", `{"issuer":"corp","group":"sre","grant":{"role":"operator","all":true}}`))
	require.Len(t, into[api.Page[api.Binding]](t, f.ask(adminapi.RoleAdmin, "GET", "/v1/bindings", "")).Items, 1)
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "DELETE", "/v1/bindings/"+b.ID, "").StatusCode)

	r := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/break-glass", `{"as":"rw","ttl_seconds":60}`, header{"X-Freehold-Reason": "INC-42"})
	require.Equal(t, http.StatusCreated, r.StatusCode, "%s", r.body)
	opened := into[api.OpenedBreakGlass](t, r)
	require.Equal(t, admintest.GrantedPassword, opened.Access.Password)
	list = f.ask(adminapi.RoleViewer, "GET", "/v1/break-glass?live=true&tenant=acme", "")
	require.NotContains(t, string(list.body), admintest.GrantedPassword)
	require.Equal(t, "open", into[api.BreakGlass](t, f.ask(adminapi.RoleViewer, "GET", "/v1/break-glass/"+opened.ID, "")).State)
	require.Equal(t, "ended", into[api.BreakGlass](t, f.ask(adminapi.RoleOperator, "POST", "/v1/break-glass/"+opened.ID+"/end", "")).State)
	require.False(t, f.Logins.Has(opened.Login))

	two := newFleetWith(t, catalogtest.Open(t), admintest.Options{BreakGlass: breakglass.Options{Approval: true}})
	two.seen = f.seen
	two.create("acme")
	waiting := two.accessOf("acme")
	require.Equal(t, http.StatusOK, two.askAs(two.addToTokensFile("the-second"), "POST", "/v1/break-glass/"+waiting+"/approve", "").StatusCode)
	require.Equal(t, http.StatusCreated, two.ask(adminapi.RoleAdmin, "POST", "/v1/break-glass/"+waiting+"/open", "").StatusCode)
}

// accessToken makes one as the admin, for an hour.
func (f *fleet) accessToken(name string, grants ...api.Grant) api.NewAccessToken {
	f.t.Helper()
	return into[api.NewAccessToken](f.t, f.makeToken(admintest.Token(adminapi.RoleAdmin), name, time.Hour, grants...))
}

func (f *fleet) makeToken(as, name string, life time.Duration, grants ...api.Grant) reply {
	f.t.Helper()
	body, err := json.Marshal(api.CreateAccessToken{Name: name, ExpiresAt: time.Now().Add(life), Grants: grants})
	require.NoError(f.t, err)
	return f.askAs(as, "POST", "/v1/access-tokens", string(body))
}

func (f *fleet) createLabelled(id string, labels string) {
	f.t.Helper()
	r := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants", `{"id":"`+id+`","shard":"s1","labels":`+labels+`}`)
	require.Equal(f.t, http.StatusOK, r.StatusCode, "%s", r.body)
}

// operationOf is the ID of a tenant's newest operation.
func (f *fleet) operationOf(id string) string {
	f.t.Helper()
	page := into[api.Page[api.Operation]](f.t, f.ask(adminapi.RoleAdmin, "GET", "/v1/operations?tenant="+id, ""))
	require.NotEmpty(f.t, page.Items)
	return page.Items[0].ID
}

func (f *fleet) accessOf(id string) string {
	f.t.Helper()
	return into[api.OpenedBreakGlass](f.t, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/"+id+"/break-glass", "", header{"X-Freehold-Reason": "a test"})).ID
}

// Every verb, by every role, over one's own part of the fleet, over another's,
// and over what is nobody's part. What is not allowed is 403, whatever there is.
func TestEveryVerbByRoleAndLabel(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.createLabelled("acme", `{"env":"prod","team":"a"}`)
	f.createLabelled("rival", `{"env":"dev"}`)
	fills := map[string]*strings.Replacer{}
	for tenant, shard := range map[string]string{"acme": "s1", "rival": "s2"} {
		fills[tenant] = strings.NewReplacer(":tenant", tenant, ":operation", f.operationOf(tenant), ":session", f.accessOf(tenant), ":shard", shard,
			":plan", "p", ":key", "000000000000", ":token", "000000000000", ":binding", "000000000000", ":role", "r")
	}
	fills["nobody"] = strings.NewReplacer(":tenant", "nobody", ":operation", "0190a0a0-0000-7000-8000-000000000000", ":session", "0190a0a0-0000-7000-8000-000000000000", ":shard", "s9",
		":plan", "p", ":key", "000000000000", ":token", "000000000000", ":binding", "000000000000", ":role", "r")
	order := map[string]int{"viewer": 1, "operator": 2, "admin": 3}
	for role, rank := range order {
		byLabel := f.accessToken("by-label-"+role, api.Grant{Role: role, Labels: map[string]string{"env": "prod"}}).Text
		byName := f.accessToken("by-name-"+role, api.Grant{Role: role, Tenants: []tenantID{"acme"}}).Text
		byShard := f.accessToken("by-shard-"+role, api.Grant{Role: role, Shards: []shardID{"s1"}}).Text
		for _, v := range adminapi.Verbs() {
			reached := rank >= order[string(v.Need)]
			for of, fill := range fills {
				path := fill.Replace(v.Path)
				ofTenant := strings.Contains(v.Path, ":tenant") || strings.Contains(v.Path, ":operation") || strings.Contains(v.Path, ":session")
				for _, c := range []struct {
					token, name string
					may         bool
				}{
					{byLabel, "label", reached && (v.Own || !v.Fleet && ofTenant && of == "acme")},
					{byName, "name", reached && (v.Own || !v.Fleet && ofTenant && of == "acme")},
					{byShard, "shard", reached && (v.Own || !v.Fleet && !ofTenant && strings.Contains(v.Path, ":shard") && of == "acme")},
				} {
					r := f.askAs(c.token, v.Method, path, noBody(v))
					require.NotEqual(t, http.StatusUnauthorized, r.StatusCode)
					require.Equal(t, !c.may, r.StatusCode == http.StatusForbidden && r.problem(t).Code == "forbidden", "%s by %s: %s %s of %s answered %d %s", role, c.name, v.Method, path, of, r.StatusCode, r.body)
				}
			}
		}
	}
}

func TestListsShowOwnPartOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i := range 9 {
		env := "prod"
		if i%3 != 0 {
			env = "dev"
		}
		f.createLabelled(fmt.Sprintf("t%d", i), `{"env":"`+env+`"}`)
		f.accessOf(fmt.Sprintf("t%d", i))
	}
	token := f.accessToken("part", api.Grant{Role: "viewer", Labels: map[string]string{"env": "prod"}}, api.Grant{Role: "viewer", Tenants: []tenantID{"t1"}}).Text
	mine := map[string]bool{"t0": true, "t1": true, "t3": true, "t6": true}
	for _, path := range []string{"/v1/tenants", "/v1/operations", "/v1/audit", "/v1/break-glass", "/v1/usage/tenants", "/v1/soaks"} {
		seen := map[string]bool{}
		cursor := ""
		for {
			r := f.askAs(token, "GET", path+"?limit=2"+cursor, "")
			require.Equal(t, http.StatusOK, r.StatusCode, "%s: %s", path, r.body)
			page := into[api.Page[struct{ ID, Tenant string }]](t, r)
			for _, item := range page.Items {
				id := item.Tenant
				if path == "/v1/tenants" {
					id = item.ID
				}
				require.True(t, mine[id], "%s shows %q", path, id)
				seen[id] = true
			}
			if page.NextCursor == "" {
				break
			}
			require.Len(t, page.Items, 2, "%s: a page that others follow is full", path)
			cursor = "&cursor=" + page.NextCursor
		}
		if path != "/v1/usage/tenants" && path != "/v1/soaks" { // nothing there
			require.Equal(t, mine, seen, path)
		}
		// Another's cursor leads nowhere else.
		all := into[api.Page[json.RawMessage]](t, f.ask(adminapi.RoleAdmin, "GET", path+"?limit=1", ""))
		if all.NextCursor != "" {
			for _, item := range into[api.Page[struct{ ID, Tenant string }]](t, f.askAs(token, "GET", path+"?cursor="+all.NextCursor, "")).Items {
				require.True(t, mine[item.ID] || mine[item.Tenant], path)
			}
		}
	}
	require.Empty(t, into[api.Page[api.Shard]](t, f.askAs(token, "GET", "/v1/shards", "")).Items)
	shard := f.accessToken("shard", api.Grant{Role: "viewer", Shards: []shardID{"s2"}}).Text
	require.Len(t, into[api.Page[api.Shard]](t, f.askAs(shard, "GET", "/v1/shards", "")).Items, 1)
	require.Empty(t, into[api.Page[api.Tenant]](t, f.askAs(shard, "GET", "/v1/tenants", "")).Items)
}

func TestNobodyHandsOutMoreThanHeHas(t *testing.T) {
	t.Parallel()
	f := newFleetWith(t, catalogtest.Open(t), admintest.Options{Issuers: []identity.Issuer{corp}})
	f.createLabelled("acme", `{"env":"prod"}`)
	f.createLabelled("rival", `{"env":"dev"}`)
	prod := map[string]string{"env": "prod"}
	maker := f.accessToken("maker", api.Grant{Role: "admin", Labels: prod}, api.Grant{Role: "viewer", Tenants: []tenantID{"rival"}})
	for name, g := range map[string]api.Grant{
		"everything":           {Role: "viewer", All: true},
		"another label":        {Role: "viewer", Labels: map[string]string{"env": "dev"}},
		"a tenant by its name": {Role: "admin", Tenants: []tenantID{"acme"}}, // which may be labelled otherwise tomorrow
		"a higher role there":  {Role: "operator", Tenants: []tenantID{"rival"}},
		"a shard":              {Role: "viewer", Shards: []shardID{"s1"}},
	} {
		r := f.makeToken(maker.Text, "x", time.Minute, g)
		require.Equal(t, "beyond_own_rights", r.problem(t).Code, name)
	}
	require.Equal(t, "beyond_own_rights", f.makeToken(maker.Text, "x", 2*time.Hour, api.Grant{Role: "viewer", Labels: prod}).problem(t).Code, "it would outlive its maker")
	require.Equal(t, http.StatusBadRequest, f.makeToken(maker.Text, "x", time.Minute, api.Grant{Role: "node", All: true}).StatusCode)
	require.Equal(t, http.StatusBadRequest, f.makeToken(maker.Text, "x", time.Minute).StatusCode)
	require.Equal(t, http.StatusBadRequest, f.ask(adminapi.RoleAdmin, "POST", "/v1/access-tokens", `{"name":"x","expires_at":"2999-01-01T00:00:00Z","grants":[{"role":"viewer","all":true}]}`).StatusCode)
	require.Equal(t, http.StatusBadRequest, f.makeToken(maker.Text, "x", time.Minute, api.Grant{Role: "viewer", Labels: prod, Verbs: []string{"everything"}}).StatusCode)
	require.Equal(t, "beyond_own_rights", f.askAs(maker.Text, "POST", "/v1/bindings", `{"issuer":"corp","user":"me","grant":{"role":"viewer","labels":{"env":"prod"}}}`).problem(t).Code,
		"what a token binds would outlast it")
	narrow := f.accessToken("narrow", api.Grant{Role: "admin", All: true, Verbs: []string{"createAccessToken"}})
	require.Equal(t, "beyond_own_rights", f.makeToken(narrow.Text, "x", time.Minute, api.Grant{Role: "viewer", All: true}).problem(t).Code)

	// What is made with a token goes with it, at once, and at every replica.
	child := into[api.NewAccessToken](t, f.makeToken(maker.Text, "child", time.Minute, api.Grant{Role: "admin", Labels: map[string]string{"env": "prod", "team": "x"}}))
	grandchild := into[api.NewAccessToken](t, f.makeToken(child.Text, "grandchild", time.Second*30, api.Grant{Role: "viewer", Labels: map[string]string{"env": "prod", "team": "x"}}))
	require.Equal(t, http.StatusOK, f.askAs(grandchild.Text, "GET", "/v1/whoami", "").StatusCode)
	require.Equal(t, http.StatusNotFound, f.askAs(child.Text, "DELETE", "/v1/access-tokens/"+narrow.ID, "").StatusCode, "it may do more than who wants it gone")
	viewer, peer := f.accessToken("viewer", api.Grant{Role: "viewer", All: true}), f.accessToken("peer", api.Grant{Role: "viewer", Labels: prod})
	require.Equal(t, http.StatusNotFound, f.askAs(viewer.Text, "DELETE", "/v1/access-tokens/"+peer.ID, "").StatusCode, "who only reads takes nothing from others")
	require.Equal(t, http.StatusOK, f.askAs(maker.Text, "DELETE", "/v1/access-tokens/"+peer.ID, "").StatusCode, "an admin there")
	require.Equal(t, http.StatusOK, f.askAs(viewer.Text, "DELETE", "/v1/access-tokens/"+viewer.ID, "").StatusCode, "one's own")
	replica := identity.New(f.Store, noFile{}, nil, nil)
	_, err := replica.Authenticate(t.Context(), grandchild.Text, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "DELETE", "/v1/access-tokens/"+maker.ID, "").StatusCode)
	for _, text := range []string{maker.Text, child.Text, grandchild.Text} {
		require.Equal(t, "token_revoked", f.askAs(text, "GET", "/v1/whoami", "").problem(t).Code)
		_, err := replica.Authenticate(t.Context(), text, "")
		require.Error(t, err)
	}
}

type (
	tenantID = shardmap.TenantID
	shardID  = shardmap.ShardID
)

// addToTokensFile gives somebody the role admin, and returns his token.
func (f *fleet) addToTokensFile(name string) string {
	f.t.Helper()
	text, err := os.ReadFile(f.TokensFile)
	require.NoError(f.t, err)
	var list []map[string]string
	require.NoError(f.t, json.Unmarshal(text, &list))
	token := name + "-token"
	text, err = json.Marshal(append(list, map[string]string{"name": name, "role": "admin", "sha256": adminapi.HashToken(token)}))
	require.NoError(f.t, err)
	require.NoError(f.t, os.WriteFile(f.TokensFile+".new", text, 0o600))
	require.NoError(f.t, os.Rename(f.TokensFile+".new", f.TokensFile))
	return token
}

type noFile struct{}

func (noFile) Lookup(string) (p adminapi.Principal, ok bool) { return p, false }

func TestRightsOverLabelsAreNeededOnBothSides(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.createLabelled("acme", `{"env":"prod"}`)
	f.createLabelled("rival", `{"env":"dev"}`)
	prod := f.accessToken("prod", api.Grant{Role: "admin", Labels: map[string]string{"env": "prod"}}).Text
	f.unchanged(func() {
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "PUT", "/v1/tenants/rival/labels", `{"labels":{"env":"prod"}}`).StatusCode, "drawn in")
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"dev"}}`).StatusCode, "pushed out")
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "PUT", "/v1/tenants/acme/labels", `{"labels":{}}`).StatusCode)
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "POST", "/v1/tenants", `{"id":"new","labels":{"env":"dev"}}`).StatusCode)
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "POST", "/v1/tenants", `{"id":"new"}`).StatusCode)
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "POST", "/v1/tenants/rival/clone", `{"id":"copy"}`).StatusCode)
	})
	require.Equal(t, http.StatusOK, f.askAs(prod, "PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"prod","team":"a"}}`).StatusCode)
	require.Equal(t, http.StatusOK, f.askAs(prod, "POST", "/v1/tenants", `{"id":"new","shard":"s1","labels":{"env":"prod"}}`).StatusCode)
	named := f.accessToken("named", api.Grant{Role: "admin", Tenants: []tenantID{"acme"}}).Text
	require.Equal(t, http.StatusForbidden, f.askAs(named, "POST", "/v1/tenants/acme/clone", `{"id":"copy"}`).StatusCode, "the clone is nobody's part")
	require.Equal(t, http.StatusForbidden, f.askAs(f.accessToken("v", api.Grant{Role: "viewer", Labels: map[string]string{"env": "prod"}}).Text,
		"PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"prod"}}`).StatusCode)
	// An operation is its tenant's.
	f.Domain.Gate = make(chan struct{})
	defer close(f.Domain.Gate)
	op := into[struct{ ID string }](t, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/rival/move", `{"to":"s2"}`)).ID
	for _, path := range []string{"cancel", "cutover", "verify", "reverse", "complete"} {
		require.Equal(t, http.StatusForbidden, f.askAs(prod, "POST", "/v1/operations/"+op+"/"+path, "").StatusCode, path)
	}
	require.Equal(t, http.StatusForbidden, f.askAs(prod, "GET", "/v1/operations/"+op, "").StatusCode)
}

// A key belongs to who sent it: another who sends the same is not given his answer.
func TestAnswersAreGivenAgainToTheSamePrincipalOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.createLabelled("acme", `{"env":"prod"}`)
	key := header{"Idempotency-Key": "k1"}
	prod := api.Grant{Role: "operator", Labels: map[string]string{"env": "prod"}}
	one, two := f.accessToken("ci", prod), f.accessToken("ci", prod) // of one name
	first := f.askAs(one.Text, "POST", "/v1/tenants/acme/suspend", "", key)
	require.Equal(t, http.StatusOK, first.StatusCode)
	require.Equal(t, "true", f.askAs(one.Text, "POST", "/v1/tenants/acme/suspend", "", key).Header.Get("Idempotency-Replayed"))
	require.Equal(t, "conflicting_state", f.askAs(two.Text, "POST", "/v1/tenants/acme/suspend", "", key).problem(t).Code)
	// Who has lost his right is not given it again either.
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"dev"}}`).StatusCode)
	require.Equal(t, http.StatusForbidden, f.askAs(one.Text, "POST", "/v1/tenants/acme/suspend", "", key).StatusCode)
	require.Equal(t, http.StatusBadRequest, f.makeTokenWithKey().StatusCode, "an answer with a secret is kept nowhere")
}

func (f *fleet) makeTokenWithKey() reply {
	return f.ask(adminapi.RoleAdmin, "POST", "/v1/access-tokens", `{}`, header{"Idempotency-Key": "k"})
}

func TestTwoPeopleOpenADatabase(t *testing.T) {
	t.Parallel()
	f := newFleetWith(t, catalogtest.Open(t), admintest.Options{BreakGlass: breakglass.Options{Approval: true, Max: time.Minute}})
	f.create("acme")
	admin := api.Grant{Role: "admin", All: true}
	why := header{"X-Freehold-Reason": "INC-42"}
	const ask = "/v1/tenants/acme/break-glass"
	require.Equal(t, "reason_required", f.ask(adminapi.RoleAdmin, "POST", ask, "").problem(t).Code)
	require.Equal(t, "invalid_request", f.ask(adminapi.RoleAdmin, "POST", ask, `{"ttl_seconds":61}`, why).problem(t).Code)
	require.Equal(t, "approval_required", f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/access", "", why).problem(t).Code, "there is one way in")
	r := f.ask(adminapi.RoleAdmin, "POST", ask, `{"as":"rw"}`, why)
	require.Equal(t, http.StatusAccepted, r.StatusCode)
	b := into[api.OpenedBreakGlass](t, r)
	require.Nil(t, b.Access)
	path := "/v1/break-glass/" + b.ID
	require.Equal(t, "conflicting_state", f.ask(adminapi.RoleAdmin, "POST", path+"/open", "").problem(t).Code)
	require.Equal(t, "own_request", f.ask(adminapi.RoleAdmin, "POST", path+"/approve", "").problem(t).Code)
	// Not by a token of one's own either, nor by one that it makes.
	own := f.accessToken("own", admin)
	require.Equal(t, "own_request", f.askAs(own.Text, "POST", path+"/approve", "").problem(t).Code)
	deeper := into[api.NewAccessToken](t, f.makeToken(own.Text, "deeper", time.Minute, admin))
	require.Equal(t, "own_request", f.askAs(deeper.Text, "POST", path+"/approve", "").problem(t).Code)
	require.Equal(t, http.StatusForbidden, f.ask(adminapi.RoleOperator, "POST", path+"/approve", "").StatusCode)

	second := f.addToTokensFile("the-second")
	require.Equal(t, "approved", into[api.BreakGlass](t, f.askAs(second, "POST", path+"/approve", "")).State)
	require.Equal(t, "not_yours", f.askAs(second, "POST", path+"/open", "").problem(t).Code)
	require.Equal(t, "not_yours", f.askAs(own.Text, "POST", path+"/open", "").problem(t).Code)
	opened := into[api.OpenedBreakGlass](t, f.ask(adminapi.RoleAdmin, "POST", path+"/open", ""))
	require.Equal(t, admintest.GrantedPassword, opened.Access.Password)
	require.Equal(t, "the-second", opened.ApprovedBy)
	require.Equal(t, "conflicting_state", f.ask(adminapi.RoleAdmin, "POST", path+"/open", "").problem(t).Code, "the login is shown once")

	// Its use is seen; and it is ended even while the server is away, as soon as that is back.
	f.Logins.Use(opened.Login)
	f.until("its use is recorded", func() bool {
		return strings.Contains(strings.Join(f.audited(), "\n"), "break-glass.use tenant/acme ok")
	})
	f.Logins.Away(true)
	require.Equal(t, "ending", into[api.BreakGlass](t, f.ask(adminapi.RoleOperator, "POST", path+"/end", "")).State)
	require.True(t, f.Logins.Has(opened.Login))
	f.Logins.Away(false)
	f.until("it has ended", func() bool {
		return into[api.BreakGlass](t, f.ask(adminapi.RoleViewer, "GET", path, "")).State == "ended" && !f.Logins.Has(opened.Login)
	})
	var records []string
	for _, a := range f.audited() {
		if strings.HasPrefix(a, "break-glass") && strings.HasSuffix(a, "ok") {
			records = append(records, a)
		}
	}
	require.Equal(t, []string{"break-glass.approve tenant/acme ok", "break-glass.open tenant/acme ok", "break-glass.use tenant/acme ok", "break-glass.end tenant/acme ok"}, records)
	require.NotContains(t, f.Log.String(), admintest.GrantedPassword)

	// Servers that are away hand nothing out.
	f.Logins.Away(true)
	b = into[api.OpenedBreakGlass](t, f.ask(adminapi.RoleAdmin, "POST", ask, "", why))
	require.Equal(t, http.StatusOK, f.askAs(second, "POST", "/v1/break-glass/"+b.ID+"/approve", "").StatusCode)
	require.Equal(t, "shard_unavailable", f.ask(adminapi.RoleAdmin, "POST", "/v1/break-glass/"+b.ID+"/open", "").problem(t).Code)
	f.Logins.Away(false)
	f.until("nothing is left of it", func() bool {
		return into[api.BreakGlass](t, f.ask(adminapi.RoleViewer, "GET", "/v1/break-glass/"+b.ID, "")).Cause == "failed"
	})
}

func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	require.Eventually(f.t, ok, time.Minute, 20*time.Millisecond, what)
}

func TestStrangersAreHeldUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.API.StrangerBurst(3)
	f.API.Unforgiving()
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "GET", "/v1/whoami", "").StatusCode)
	status := func(token string) int {
		req, err := http.NewRequestWithContext(testContext(t), "GET", f.URL+"/v1/whoami", http.NoBody)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		if resp.StatusCode == http.StatusTooManyRequests {
			require.NotEmpty(t, resp.Header.Get("Retry-After"))
		}
		return resp.StatusCode
	}
	refused := 0
	for i := range 20 {
		if status(fmt.Sprintf("fha_%012x_%s", i, strings.Repeat("a", 52))) == http.StatusTooManyRequests {
			refused++
		}
	}
	require.Equal(t, 17, refused, "all after the first three")
	require.Equal(t, http.StatusOK, status(admintest.Token(adminapi.RoleAdmin)), "who was known is not locked out by others")
	signIns := 0
	for _, a := range f.audited() {
		if strings.HasPrefix(a, "admin.signin") {
			signIns++
		}
	}
	require.Positive(t, signIns)
	require.LessOrEqual(t, signIns, 3, "a flood is one record, unless it takes minutes")
}

// What somebody may not read is recorded, too, and not without bound.
func TestForbiddenReadsAreRecorded(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.API.Unforgiving()
	f.create("acme")
	token := f.accessToken("elsewhere", api.Grant{Role: "viewer", Tenants: []tenantID{"other"}}).Text
	for range 40 {
		require.Equal(t, http.StatusForbidden, f.askAs(token, "GET", "/v1/tenants/acme", "").StatusCode)
	}
	n := 0
	for _, a := range f.audited() {
		if a == "read.getTenant tenant/acme refused" {
			n++
		}
	}
	require.Equal(t, 20, n)
}
