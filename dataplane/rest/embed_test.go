package rest_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// films is the fixture with the schema of PostgREST's documentation of embedding.
func films(t testing.TB, opts rest.Options) *api {
	t.Helper()
	a := fixture(t, opts)
	sql, err := os.ReadFile("testdata/films.sql")
	require.NoError(t, err)
	a.exec(string(sql))
	return a
}

// expect is a request of reading and the body of its answer.
type expect struct{ path, want string }

func (a *api) expect(cases []expect) {
	a.t.Helper()
	for _, c := range cases {
		w := a.get(escape(c.path))
		require.Equal(a.t, http.StatusOK, w.Code, "%s: %s", c.path, w.Body)
		require.JSONEq(a.t, c.want, w.Body.String(), c.path)
	}
}

func TestEmbed(t *testing.T) {
	a := films(t, rest.Options{})
	a.expect([]expect{
		// cardinalities
		{"/films?select=title,directors(last_name)&id=in.(1,4)", `[{"title":"2001","directors":{"last_name":"Kubrick"}},{"title":"Orphan","directors":null}]`},
		{"/directors?select=last_name,films(title)&order=id", `[{"last_name":"Kubrick","films":[{"title":"2001"},{"title":"The Shining"}]},{"last_name":"Varda","films":[{"title":"Cléo"}]},{"last_name":"Yet","films":[]}]`},
		{"/films?select=title,actors(first_name)&id=lt.3&actors.order=id.desc", `[{"title":"2001","actors":[{"first_name":"William"},{"first_name":"Keir"}]},{"title":"Cléo","actors":[{"first_name":"Corinne"}]}]`},
		{"/films?select=title,technical_specs(camera)&id=in.(2,3)", `[{"title":"Cléo","technical_specs":{"camera":"Cameflex"}},{"title":"The Shining","technical_specs":null}]`},
		{"/technical_specs?select=films(title)&film_id=eq.1", `[{"films":{"title":"2001"}}]`},
		{"/visits?select=id,places(name)&order=id", `[{"id":1,"places":{"name":"Bonn"}},{"id":2,"places":{"name":"Nice"}},{"id":3,"places":null}]`},
		// names, nesting, stars
		{"/films?select=d:directors(n:last_name)&id=eq.1", `[{"d":{"n":"Kubrick"}}]`},
		{"/films?select=director_id(last_name)&id=eq.1", `[{"director_id":{"last_name":"Kubrick"}}]`},
		{"/films?select=film_director(*)&id=eq.1", `[{"film_director":{"id":1,"first_name":"Stanley","last_name":"Kubrick"}}]`},
		{"/actors?select=roles(character,films(title,directors(last_name)))&id=eq.1", `[{"roles":[{"character":"Bowman","films":{"title":"2001","directors":{"last_name":"Kubrick"}}}]}]`},
		{"/directors?select=id,films()&id=eq.1", `[{"id":1}]`},
		// hints
		{"/orders?select=id,addresses!billing(name)&id=eq.1", `[{"id":1,"addresses":{"name":"home"}}]`},
		{"/orders?select=b:addresses!billing_address_id(name),s:addresses!shipping(name)&id=eq.1", `[{"b":{"name":"home"},"s":{"name":"work"}}]`},
		{"/addresses?select=name,orders!shipping(id)&order=id", `[{"name":"home","orders":[{"id":2}]},{"name":"work","orders":[{"id":1}]}]`},
		{"/films?select=actors!roles(id)&id=eq.2", `[{"actors":[{"id":2}]}]`},
		// recursion
		{"/employees?select=name,employees(name)&id=eq.1", `[{"name":"chief","employees":[{"name":"a"},{"name":"b"}]}]`},
		{"/employees?select=name,boss_id(name)&id=eq.2", `[{"name":"a","boss_id":{"name":"chief"}}]`},
		{"/employees?select=name,boss(name),subordinates(name,subordinates(name))&id=in.(1,2)", `[{"name":"chief","boss":null,"subordinates":[{"name":"a","subordinates":[{"name":"c"}]},{"name":"b","subordinates":[]}]},
			{"name":"a","boss":{"name":"chief"},"subordinates":[{"name":"c","subordinates":[]}]}]`},
		// filters, order, pages of embeds
		{"/directors?select=id,films(id)&films.year=gt.1970&order=id", `[{"id":1,"films":[{"id":3}]},{"id":2,"films":[]},{"id":3,"films":[]}]`},
		{"/directors?select=id,f:films(id)&f.order=year.desc&f.limit=1&id=eq.1", `[{"id":1,"f":[{"id":3}]}]`},
		{"/directors?select=id,films(id)&films.order=id&films.limit=1&films.offset=1&id=eq.1", `[{"id":1,"films":[{"id":3}]}]`},
		{"/directors?select=id,films(id)&films.or=(year.eq.1980,title.eq.2001)&id=eq.1", `[{"id":1,"films":[{"id":1},{"id":3}]}]`},
		{"/directors?select=id,films(id,actors(id))&films.actors.id=eq.3&id=eq.1", `[{"id":1,"films":[{"id":1,"actors":[{"id":3}]},{"id":3,"actors":[]}]}]`},
		// inner joins and null filters
		{"/directors?select=id,films!inner(id)&films.year=gt.1970", `[{"id":1,"films":[{"id":3}]}]`},
		{"/directors?select=id,films!left(id)&id=eq.3", `[{"id":3,"films":[]}]`},
		{"/directors?select=id,films!inner(actors!inner(id))&films.actors.id=eq.2", `[{"id":2,"films":[{"actors":[{"id":2}]}]}]`},
		{"/films?select=id,directors!inner()&directors.last_name=eq.Varda", `[{"id":2}]`},
		{"/films?select=id,actors()&actors=not.is.null&order=id", `[{"id":1},{"id":2}]`},
		{"/films?select=id,directors(id)&directors=is.null", `[{"id":4,"directors":null}]`},
		{"/films?select=id,directors()&directors=is.not_null&order=id", `[{"id":1},{"id":2},{"id":3}]`},
		{"/directors?select=id,films()&or=(films.is.null,id.eq.1)&order=id", `[{"id":1},{"id":3}]`},
		// order by a related column
		{"/films?select=id,directors()&order=directors(last_name).desc.nullslast,id.desc", `[{"id":2},{"id":3},{"id":1},{"id":4}]`},
		{"/films?select=id,spec:technical_specs()&order=spec(runtime).nullsfirst,id", `[{"id":3},{"id":4},{"id":2},{"id":1}]`},
		// spread
		{"/films?select=title,...directors(last_name,n:first_name)&id=in.(1,4)", `[{"title":"2001","last_name":"Kubrick","n":"Stanley"},{"title":"Orphan","last_name":null,"n":null}]`},
		{"/roles?select=character,...films(title,...directors(last_name),technical_specs(camera))&actor_id=eq.1", `[{"character":"Bowman","title":"2001","last_name":"Kubrick","technical_specs":{"camera":"Super Panavision 70"}}]`},
		{"/directors?select=id,...films(titles:title,year)&id=in.(1,3)&films.order=year.desc", `[{"id":1,"titles":["The Shining","2001"],"year":[1980,1968]},{"id":3,"titles":[],"year":[]}]`},
		{"/technical_specs?select=...films(*)&film_id=eq.1", `[{"id":1,"director_id":1,"title":"2001","year":1968,"rating":8.3,"language":"en"}]`},
		// views
		{"/reviews?select=review_id,films(title)&review_id=eq.3", `[{"review_id":3,"films":{"title":"Cléo"}}]`},
		{"/films?select=reviews(review_id)&id=eq.1", `[{"reviews":[{"review_id":1},{"review_id":2}]}]`},
		{"/films?select=loud_reviews(review_id)&id=eq.1", `[{"loud_reviews":[{"review_id":1}]}]`},
		{"/old_films?select=title,directors(last_name),roles(character)&id=eq.2", `[{"title":"Cléo","directors":{"last_name":"Varda"},"roles":[{"character":"Cléo"}]}]`},
		// computed
		{"/directors?select=full_name&full_name=like.Agn*", `[{"full_name":"Agnès Varda"}]`},
		{"/films?select=id,directors(full_name)&id=eq.1", `[{"id":1,"directors":{"full_name":"Stanley Kubrick"}}]`},
		{"/directors?select=n:full_name::text&order=full_name&limit=1", `[{"n":"Agnès Varda"}]`},
	})
	w := a.get("/directors?select=id,films!inner(id)", "Prefer: count=exact")
	require.Equal(t, "0-1/2", w.Header().Get("Content-Range"), w.Body)
}

func TestEmbedRefused(t *testing.T) {
	a := films(t, rest.Options{})
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/films?select=director(*)", 400, `{"code":"PGRST200","details":"Searched for a foreign key relationship between 'films' and 'director' in the schema 'public', but no matches were found.","hint":"Perhaps you meant 'directors' instead of 'director'.","message":"Could not find a relationship between 'films' and 'director' in the schema cache"}`},
		{"/films?select=directors!nope(*)", 400, `{"code":"PGRST200","details":"Searched for a foreign key relationship between 'films' and 'directors' using the hint 'nope' in the schema 'public', but no matches were found.","hint":null,"message":"Could not find a relationship between 'films' and 'directors' in the schema cache"}`},
		{"/orders?select=addresses(*)", 300, `{"code":"PGRST201","details":[{"cardinality":"many-to-one","embedding":"orders with addresses","relationship":"billing using orders(billing_address_id) and addresses(id)"},{"cardinality":"many-to-one","embedding":"orders with addresses","relationship":"shipping using orders(shipping_address_id) and addresses(id)"}],"hint":"Try changing 'addresses' to one of the following: 'addresses!billing', 'addresses!shipping'. Find the desired relationship in the 'details' key.","message":"Could not embed because more than one relationship was found for 'orders' and 'addresses'"}`},
		{"/directors?select=films(*)&order=films(title)", 400, `{"code":"PGRST118","details":"'directors' and 'films' do not form a many-to-one or one-to-one relationship","hint":null,"message":"A related order on 'films' is not possible"}`},
		{"/films?select=id&order=directors(id)", 400, `{"code":"PGRST108","details":null,"hint":"Verify that 'directors' is included in the 'select' query parameter.","message":"'directors' is not an embedded resource in this request"}`},
		{"/films?select=id,directors(*)&directors=eq.1", 400, `{"code":"42703","details":null,"hint":"Perhaps you meant to reference the column \"films.director_id\".","message":"column films.directors does not exist"}`},
		{"/films?select=id&directors.id=eq.1", 400, ""},
		{"/films?select=directors(nope)", 400, ""},
		{"/films?select=directors(id)&directors.limit=-1", 400, `{"code":"2201W","details":null,"hint":null,"message":"LIMIT must not be negative"}`},
	} {
		w := a.get(c.path)
		require.Equal(t, c.status, w.Code, "%s: %s", c.path, w.Body)
		if c.want != "" {
			require.JSONEq(t, c.want, w.Body.String(), c.path)
		}
	}
}

func TestEmbedInWrites(t *testing.T) {
	a := films(t, rest.Options{})
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/films?select=title,directors(last_name),actors(id)", `{"id":9,"title":"x","director_id":2}`, `[{"title":"x","directors":{"last_name":"Varda"},"actors":[]}]`},
		{http.MethodPatch, "/films?id=eq.1&select=...directors(last_name),roles(character)&roles.order=character", `{"director_id":3}`, `[{"last_name":"Yet","roles":[{"character":"Bowman"},{"character":"Floyd"}]}]`},
		{http.MethodPost, "/directors?select=full_name", `{"id":9,"first_name":"J","last_name":"T"}`, `[{"full_name":"J T"}]`},
		{http.MethodPost, "/employees?select=*,boss(name)", `{"id":9,"name":"new","boss_id":2}`, `[{"id":9,"name":"new","boss_id":2,"boss":{"name":"a"}}]`},
		{http.MethodPatch, "/films?select=id,actors()&actors=is.null&order=id", `{"language":"xx"}`, `[{"id":3},{"id":4},{"id":9}]`},
		{http.MethodDelete, "/employees?id=eq.9&select=id,boss_id(id)", ``, `[{"id":9,"boss_id":{"id":2}}]`},
	} {
		w := a.do(c.method, c.path, c.body, full)
		require.Less(t, w.Code, 300, "%s: %s", c.path, w.Body)
		require.JSONEq(t, c.want, w.Body.String(), c.path)
	}
}

func TestAggregates(t *testing.T) {
	a := films(t, rest.Options{Aggregates: true})
	a.expect([]expect{
		{"/films?select=count()", `[{"count":4}]`},
		{"/films?select=n:count()::text", `[{"n":"4"}]`},
		{"/orders?select=amount.sum(),day&order=day", `[{"sum":30,"day":"2024-01-01"},{"sum":5,"day":"2024-01-02"}]`},
		{"/orders?select=total:amount.sum()::int,low:amount.min(),high:amount.max(),avg:amount.avg()::int,n:id.count()", `[{"total":35,"low":5,"high":20,"avg":12,"n":3}]`},
		{"/directors?select=last_name,films(count(),rating.max())&order=id&id=lt.3", `[{"last_name":"Kubrick","films":[{"count":2,"max":8.4}]},{"last_name":"Varda","films":[{"count":1,"max":7.8}]}]`},
		{"/films?select=count(),...directors(last_name)&order=directors(last_name)&director_id=not.is.null", `[{"count":2,"last_name":"Kubrick"},{"count":1,"last_name":"Varda"}]`},
		{"/films?select=count(),directors(last_name)&director_id=eq.1", `[{"count":2,"directors":{"last_name":"Kubrick"}}]`},
		{"/roles?select=...films(year.min()),n:count()", `[{"min":1962,"n":3}]`},
		{"/projects?select=meta->>os,count()&meta->>os=not.is.null&order=meta->>os", `[{"os":"ios","count":1},{"os":"win","count":2}]`},
		{"/employees?select=*,count()&id=eq.1", `[{"id":1,"name":"chief","boss_id":null,"count":1}]`},
	})
}
