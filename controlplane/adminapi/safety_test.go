package adminapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/operation"
)

func TestTheSameKeyIsDoneOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	key := header{"Idempotency-Key": "create-acme"}
	first := f.ask(adminapi.RoleOperator, "POST", "/v1/tenants", `{"id":"acme"}`, key)
	require.Equal(t, http.StatusOK, first.StatusCode)
	require.Empty(t, first.Header.Get("Idempotency-Replayed"))
	f.unchanged(func() {
		again := f.ask(adminapi.RoleOperator, "POST", "/v1/tenants", `{"id":"acme"}`, key)
		require.Equal(t, first.StatusCode, again.StatusCode)
		require.Equal(t, string(first.body), string(again.body))
		require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))

		other := f.ask(adminapi.RoleOperator, "POST", "/v1/tenants", `{"id":"other"}`, key)
		require.Equal(t, http.StatusUnprocessableEntity, other.StatusCode)
		require.Equal(t, "idempotency_key_reused", other.problem(t).Code)
		require.Equal(t, http.StatusUnprocessableEntity, f.ask(adminapi.RoleOperator, "POST", "/v1/tenants/acme/suspend", "", key).StatusCode)
	})
	require.Equal(t, []string{"tenant.create tenant/acme ok", "tenant.create tenant refused", "tenant.suspend tenant/acme refused"}, f.audited())

	// Keys belong to who uses them.
	require.Equal(t, http.StatusConflict, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants", `{"id":"acme"}`, key).StatusCode)
	// What was refused leaves its key free.
	key = header{"Idempotency-Key": "twice"}
	require.Equal(t, http.StatusConflict, f.ask(adminapi.RoleOperator, "POST", "/v1/tenants/acme/resume", "", key).StatusCode)
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleOperator, "POST", "/v1/tenants/acme/suspend", "").StatusCode)
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleOperator, "POST", "/v1/tenants/acme/resume", "", key).StatusCode)
	// No key is stored with an answer that holds a password.
	refused := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/access", "", header{"Idempotency-Key": "k"})
	require.Equal(t, http.StatusBadRequest, refused.StatusCode)
	for _, bad := range []string{strings.Repeat("k", 129), "with space"} {
		require.Equal(t, "invalid_parameter", f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants", `{"id":"x"}`, header{"Idempotency-Key": bad}).problem(t).Code)
	}
}

func TestConcurrentDuplicates(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var answers []reply
	for range 16 {
		wg.Go(func() {
			r := f.ask(adminapi.RoleOperator, "POST", "/v1/tenants", `{"id":"acme"}`, header{"Idempotency-Key": "one"})
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, r)
		})
	}
	wg.Wait()
	good := ""
	for _, r := range answers {
		if r.StatusCode == http.StatusOK {
			if good == "" {
				good = string(r.body)
			}
			require.Equal(t, good, string(r.body))
			continue
		}
		require.Equal(t, "request_under_way", r.problem(t).Code)
	}
	require.NotEmpty(t, good)
	require.Equal(t, int64(1), f.Domain.Creates.Load())
	last := f.ask(adminapi.RoleOperator, "POST", "/v1/tenants", `{"id":"acme"}`, header{"Idempotency-Key": "one"})
	require.Equal(t, good, string(last.body))
}

// Every mutation leaves one record, whatever became of it.
func TestEveryMutationIsAudited(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	why := header{"X-Freehold-Reason": "Kündigung, Ticket 7", "X-Request-ID": "req-7"}
	admin := adminapi.RoleAdmin
	var want []string
	do := func(role adminapi.Role, method, path, body string, records ...string) {
		t.Helper()
		f.ask(role, method, path, body, why)
		want = append(want, records...)
		require.Equal(t, want, f.audited(), "%s %s", method, path)
	}
	do(admin, "POST", "/v1/tenants", `{"id":"acme","shard":"s1"}`, "tenant.create tenant/acme ok")
	do(admin, "POST", "/v1/tenants", `{"id":"acme"}`, "tenant.create tenant/acme refused")
	do(admin, "POST", "/v1/tenants", `{"id":"Nope"}`, "tenant.create tenant/Nope refused")
	do(admin, "POST", "/v1/tenants", `{`, "tenant.create tenant refused")
	do(admin, "POST", "/v1/tenants/acme/suspend", ``, "tenant.suspend tenant/acme ok")
	do(admin, "POST", "/v1/tenants/acme/suspend", ``, "tenant.suspend tenant/acme refused")
	do(admin, "POST", "/v1/tenants/acme/resume", ``, "tenant.resume tenant/acme ok")
	do(adminapi.RoleViewer, "DELETE", "/v1/tenants/acme", ``, "tenant.delete tenant/acme refused")
	do(adminapi.RoleNode, "POST", "/v1/shards/s1/cordon", ``, "shard.cordon shard/s1 refused")
	do("", "DELETE", "/v1/tenants/acme", ``)
	do(admin, "DELETE", "/v1/tenants/acme", ``, "tenant.delete tenant/acme ok")
	do(admin, "POST", "/v1/tenants/acme/restore", ``, "tenant.restore tenant/acme ok")
	do(admin, "POST", "/v1/tenants/acme/access", ``, "break-glass.ask tenant/acme accepted", "break-glass.open tenant/acme ok")
	do(admin, "POST", "/v1/shards/s2/cordon", ``, "shard.cordon shard/s2 ok")
	do(admin, "POST", "/v1/shards/s9/cordon", ``, "shard.cordon shard/s9 refused")
	do(admin, "POST", "/v1/shards/s2/uncordon", ``, "shard.uncordon shard/s2 ok")
	do(admin, "POST", "/v1/shards", `{"id":"s3",`+goodShard+`}`, "shard.add shard/s3 ok")
	do(admin, "POST", "/v1/tenants/acme/move", `{"to":"s1","dry_run":true}`)
	do(admin, "POST", "/v1/tenants/acme/move", `{"to":"s1"}`, "tenant.move tenant/acme refused")
	do(admin, "POST", "/v1/tenants/acme/move", `{"to":"s2"}`, "tenant.move tenant/acme ok")
	op := into[api.Page[api.Operation]](t, f.ask(admin, "GET", "/v1/operations?unfinished=true", "")).Items[0]
	do(admin, "POST", "/v1/operations/"+op.ID+"/cancel", ``, "operation.cancel operation/"+op.ID+" accepted")
	f.Domain.Fail = func() error { return fmt.Errorf("broken") }
	do(admin, "POST", "/v1/tenants/acme/suspend", ``, "tenant.suspend tenant/acme failed")

	list := into[api.Page[api.AuditEntry]](t, f.ask(adminapi.RoleViewer, "GET", "/v1/audit?limit=1000", ""))
	list.Items = slices.DeleteFunc(list.Items, func(e api.AuditEntry) bool { return e.Action == operation.ActionEnd }) // see audited
	require.Len(t, list.Items, len(want))
	for _, e := range list.Items {
		require.Equal(t, "Kündigung, Ticket 7", e.Reason)
		require.Equal(t, "req-7", e.RequestID)
		require.Equal(t, "127.0.0.1", e.Address)
		require.Contains(t, e.Actor, "the-")
	}
	require.JSONEq(t, `{"status":500,"code":"internal"}`, string(list.Items[0].Details))
	require.NotContains(t, fmt.Sprint(list), admintest.GrantedPassword)
	require.Equal(t, "invalid_parameter", f.ask(admin, "POST", "/v1/shards/s1/cordon", "", header{"X-Freehold-Reason": strings.Repeat("r", 501)}).problem(t).Code)
}

func TestListsGoOnWhereTheyStopped(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i := range 7 {
		f.create(fmt.Sprintf("t%d", i))
	}
	f.unchanged(func() {
		for _, list := range []string{"tenants", "operations", "audit", "shards"} {
			all := into[api.Page[json.RawMessage]](t, f.ask(adminapi.RoleViewer, "GET", "/v1/"+list, ""))
			require.Empty(t, all.NextCursor)
			var walked []json.RawMessage
			cursor := ""
			for range 20 {
				page := into[api.Page[json.RawMessage]](t, f.ask(adminapi.RoleViewer, "GET", "/v1/"+list+"?limit=2"+cursor, ""))
				require.LessOrEqual(t, len(page.Items), 2)
				walked = append(walked, page.Items...)
				if page.NextCursor == "" {
					break
				}
				cursor = "&cursor=" + page.NextCursor
				if list != "tenants" {
					r := f.ask(adminapi.RoleViewer, "GET", "/v1/tenants?limit=2"+cursor, "")
					require.Equal(t, "invalid_parameter", r.problem(t).Code, "a cursor of %s", list)
				}
			}
			require.Equal(t, all.Items, walked, list)
		}
	})
}

func TestTokensAreReadAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ask := func(role adminapi.Role) int { return f.ask(role, "GET", "/v1/tenants", "").StatusCode }
	require.Equal(t, http.StatusOK, ask(adminapi.RoleViewer))
	admintest.WriteTokens(t, f.TokensFile, adminapi.RoleAdmin)
	require.Equal(t, http.StatusUnauthorized, ask(adminapi.RoleViewer))
	require.Equal(t, http.StatusOK, ask(adminapi.RoleAdmin))
	// A broken file keeps the last good list, and says so once.
	require.NoError(t, os.WriteFile(f.TokensFile, []byte("[{"), 0o600))
	for range 5 {
		require.Equal(t, http.StatusOK, ask(adminapi.RoleAdmin))
	}
	require.Equal(t, 1, strings.Count(f.Log.String(), "token file cannot be used"))
	require.NoError(t, os.Remove(f.TokensFile))
	require.Equal(t, http.StatusOK, ask(adminapi.RoleAdmin))
	admintest.WriteTokens(t, f.TokensFile, adminapi.RoleViewer)
	require.Equal(t, http.StatusUnauthorized, ask(adminapi.RoleAdmin))
	require.Equal(t, http.StatusOK, ask(adminapi.RoleViewer))
}

func TestTokenFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	hash := adminapi.HashToken("x")
	for _, text := range []string{
		"", "{}", "[]", "null",
		`[{"name":"a","role":"root","sha256":"` + hash + `"}]`,
		`[{"name":"","role":"admin","sha256":"` + hash + `"}]`,
		`[{"name":"a","role":"admin","sha256":"ff"}]`,
		`[{"name":"a","role":"admin","token":"x","sha256":"` + hash + `"}]`,
		`[{"name":"a","role":"admin","sha256":"` + hash + `"},{"name":"a","role":"viewer","sha256":"` + adminapi.HashToken("y") + `"}]`,
		`[{"name":"a","role":"admin","sha256":"` + hash + `"},{"name":"b","role":"viewer","sha256":"` + hash + `"}]`,
	} {
		path := filepath.Join(t.TempDir(), "tokens.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := adminapi.OpenTokens(path, slog.Default())
		require.Error(t, err, text)
	}
	_, err := adminapi.OpenTokens(filepath.Join(t.TempDir(), "none.json"), slog.Default())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	op := into[api.Operation](t, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/move", `{"to":"s2"}`))
	streamed := make(chan reply, 1)
	go func() { streamed <- f.ask(adminapi.RoleViewer, "GET", "/v1/operations/"+op.ID+"/watch", "") }()
	f.settle(t, "acme")
	began := time.Now()
	f.Stop()
	r := <-streamed
	require.Less(t, time.Since(began), 30*time.Second)
	require.Contains(t, string(r.body), "event: operation\ndata: {")
	require.NotContains(t, string(r.body), `"state":"done"`)
}

// FuzzDecode: whatever the strict parser takes, the lax one takes too, and understands the same.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `{"id":"a"}`, `{"id":"a","id":"b"}`, `{"id":"\ud800"}`, "{\"id\":\"\xff\"}", `{"id":"a"}x`, `null`, ` {"labels":{"a":"b"}} `, `{"max_databases":1e99}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var strict, lax api.AddShard
		if adminapi.Decode(body, &strict) != nil {
			return
		}
		if len(body) == 0 {
			return
		}
		require.True(t, utf8.Valid(body))
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&lax))
		if strict.Labels != nil && len(strict.Labels) == 0 {
			strict.Labels, lax.Labels = nil, nil
		}
		require.Equal(t, lax, strict)
	})
}
