package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/internal/problem"
)

// Identities is what the API needs of who keeps tokens and bindings (*identity.Desk).
type Identities interface {
	CreateToken(ctx context.Context, spec identity.TokenSpec, maker Principal, actor catalog.Actor) (identity.Token, string, error)
	Tokens(ctx context.Context, who Principal, p catalog.Page) ([]identity.Token, string, error)
	RevokeToken(ctx context.Context, id string, who Principal, actor catalog.Actor) (identity.Token, error)
	Bind(ctx context.Context, b identity.Binding, maker Principal, actor catalog.Actor) (identity.Binding, error)
	Bindings(ctx context.Context, who Principal, p catalog.Page) ([]identity.Binding, string, error)
	Unbind(ctx context.Context, id string, who Principal, actor catalog.Actor) error
	People() *identity.People
}

func (a *API) createAccessToken(ctx context.Context, c *call) (answer, error) {
	var in api.CreateAccessToken
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.about("access-token", in.Name)
	spec := identity.TokenSpec{Name: in.Name, Expires: in.ExpiresAt}
	for i, g := range in.Grants {
		if err := a.checkVerbs(fmt.Sprintf("/grants/%d", i), g); err != nil {
			return answer{}, err
		}
		spec.Grants = append(spec.Grants, grantOf(g))
	}
	t, text, err := a.Identities.CreateToken(ctx, spec, c.who, c.actor)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, doc: api.NewAccessToken{AccessToken: accessTokenDoc(t), Text: text}}, nil
}

// checkVerbs refuses a grant of verbs that there are not, or that its role may not do: it would look like more than it is.
func (a *API) checkVerbs(place string, g api.Grant) error {
	for _, name := range g.Verbs {
		need, known := a.needs[name]
		switch {
		case !known:
			return invalidBody().At(place+"/verbs", "names "+strconv.Quote(clip(name))+", which is no operationId of /openapi.yaml")
		case !authority.Role(g.Role).May(need, false):
			return invalidBody().At(place+"/verbs", "names "+name+", which needs the role "+string(need))
		}
	}
	return nil
}

func (a *API) listAccessTokens(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor"); err != nil {
		return answer{}, err
	}
	p, err := readPage("access-tokens", c.query)
	if err != nil {
		return answer{}, err
	}
	tokens, next, err := a.Identities.Tokens(ctx, c.who, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("access-tokens", tokens, next, accessTokenDoc))
}

func (a *API) revokeAccessToken(ctx context.Context, c *call) (answer, error) {
	id := c.params.ByName("token")
	if !keyIDPattern.MatchString(id) { // the text of a token, say, which is to be repeated nowhere
		c.object = "access-token"
		return answer{}, invalidParameter("token", "is not the ID of an access token: 12 hex digits")
	}
	c.about("access-token", id)
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	t, err := a.Identities.RevokeToken(ctx, id, c.who, c.actor)
	if err != nil {
		return answer{}, err
	}
	return ok(accessTokenDoc(t))
}

func accessTokenDoc(t identity.Token) api.AccessToken {
	doc := api.AccessToken{ID: t.ID, Name: t.Name, Grants: []api.Grant{}, State: t.State(), CreatedBy: t.MadeBy, CreatedAt: t.CreatedAt.UTC(), ExpiresAt: t.ExpiresAt.UTC(),
		Parent: t.Parent, RevokedAt: utc(t.RevokedAt), RevokedBy: t.RevokedBy, LastUsedAt: utc(t.LastUsedAt), LastUsedFrom: t.LastUsedFrom}
	for _, g := range t.Grants {
		doc.Grants = append(doc.Grants, grantDoc(g))
	}
	return doc
}

func (a *API) createBinding(ctx context.Context, c *call) (answer, error) {
	var in api.CreateBinding
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if err := a.checkVerbs("/grant", in.Grant); err != nil {
		return answer{}, err
	}
	b := identity.Binding{Issuer: in.Issuer, Kind: identity.KindUser, Subject: in.User, Grant: grantOf(in.Grant), ExpiresAt: in.ExpiresAt}
	switch {
	case in.User != "" && in.Group != "" || in.User == "" && in.Group == "":
		return answer{}, invalidBody().At("/user", "or group is given, and not both")
	case in.Group != "":
		b.Kind, b.Subject = identity.KindGroup, in.Group
	}
	b, err := a.Identities.Bind(ctx, b, c.who, c.actor)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, doc: bindingDoc(b)}, nil
}

func (a *API) listBindings(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor"); err != nil {
		return answer{}, err
	}
	p, err := readPage("bindings", c.query)
	if err != nil {
		return answer{}, err
	}
	bindings, next, err := a.Identities.Bindings(ctx, c.who, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("bindings", bindings, next, bindingDoc))
}

func (a *API) removeBinding(ctx context.Context, c *call) (answer, error) {
	id := c.params.ByName("binding")
	if !keyIDPattern.MatchString(id) {
		return answer{}, invalidParameter("binding", "is not the ID of a binding: 12 hex digits")
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	if err := a.Identities.Unbind(ctx, id, c.who, c.actor); err != nil {
		return answer{}, err
	}
	return ok(struct{}{})
}

func bindingDoc(b identity.Binding) api.Binding {
	doc := api.Binding{ID: b.ID, Issuer: b.Issuer, Grant: grantDoc(b.Grant), CreatedBy: b.MadeBy, CreatedAt: b.CreatedAt.UTC(), ExpiresAt: utc(b.ExpiresAt)}
	if b.Kind == identity.KindGroup {
		doc.Group = b.Subject
	} else {
		doc.User = b.Subject
	}
	return doc
}

// signIn tells where people sign in: nothing of it is secret, and who signs in has no token yet.
func (a *API) signIn(c *gin.Context) {
	doc := api.SignIn{Issuers: []api.SignInIssuer{}}
	if a.Identities != nil && a.Identities.People() != nil {
		for _, i := range a.Identities.People().Issuers() {
			doc.Issuers = append(doc.Issuers, api.SignInIssuer{Name: i.Name, URL: i.URL, ClientID: i.ClientID, Scopes: append([]string{}, i.Scopes...), UseIDToken: i.UseIDToken})
		}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		a.refuse(c, problem.Internal())
		return
	}
	a.send(c, http.StatusOK, body)
}
