package dataplane_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/shardmap"
)

// hostile are values for every position that takes one. None of them holds a
// word that may not be in an answer, since answers repeat what they were asked.
var hostile = []string{
	"'", `"`, `\`, `'; DROP TABLE notes; --`, `' OR '1'='1`, `1) UNION ALL (select 1`, "$1", "$$;$$", "/*", "*/ --",
	"\x00", "a\x00b", "\xff\xfe", "\xc0\xaf", "\u202e\u0000", "{", "}", `{"`, "(", ")))", "[1,", "NaN", "-0", "1e999999", "99999999999999999999999999",
	"(select 1)", "id::regclass", "*", "..", "../../etc", "not.", "->", "->>", "::", "!", "a,b,c", "%", "%00", "%c0%af", "%zz",
	strings.Repeat("x", 8000), strings.Repeat("(", 1500), strings.Repeat("->a", 1000),
}

// siege is a node under attack: acme's token is the attacker's, rival's rows must never show.
type siege struct {
	*world
	node  *dataplane.Server
	token string
	leaks []string
}

const canary = "CANARY-of-rival"

func besiege(t *testing.T) *siege {
	w := newWorld(t)
	w.tenant("acme", 3)
	w.tenant("rival", 3)
	_, err := w.admin(w.database("rival")).Exec(t.Context(), "UPDATE notes SET body = '"+canary+"'")
	require.NoError(t, err)
	s := &siege{world: w, node: w.node(func(c *dataplane.Config) { c.ControlURL = "" }), token: w.token("acme", "editor")}
	s.leaks = []string{canary, w.database("acme"), w.database("rival"), "_auth_a", "pg_catalog", "json_agg", "goroutine", ".go:", "pgconn", "runtime error",
		"postgres://", "postgresql://", "password", w.dir, "SQLSTATE"}
	require.Eventually(t, func() bool { // what it must know of the tenant has come
		return do(t, http.MethodGet, s.node.URL()+"/rest/v1/notes", s.token, "").status == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
	return s
}

// sound fails when an answer is a fault of ours or tells what is nobody's business.
func (s *siege) sound(what string, status int, body string) {
	s.t.Helper()
	require.Less(s.t, status, 500, "%.200s: %s", what, body)
	for _, leak := range s.leaks {
		require.NotContains(s.t, body, leak, "%.200s", what)
	}
}

func (s *siege) send(method, path, body string, headers ...string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.node.URL()+"/", strings.NewReader(body))
	require.NoError(s.t, err)
	at, query, _ := strings.Cut(path, "?")
	req.URL.Opaque, req.URL.RawQuery = at, query // as it is
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0 // our own client refused to send it
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	s.sound(method+" "+path+" "+strings.Join(headers, " "), resp.StatusCode, string(text))
	return resp.StatusCode
}

// untouched proves that the attack changed nothing and broke nothing.
func (s *siege) untouched() {
	s.t.Helper()
	a := do(s.t, http.MethodGet, s.node.URL()+"/rest/v1/notes?select=id,owner&order=id&id=gte.1&id=lte.3", s.token, "")
	require.Equal(s.t, 200, a.status, a.body)
	require.JSONEq(s.t, `[{"id":1,"owner":"acme"},{"id":2,"owner":"acme"},{"id":3,"owner":"acme"}]`, a.body)
	for _, tenant := range []shardmap.TenantID{"acme", "rival"} {
		var n int
		require.NoError(s.t, s.admin(s.database(tenant)).QueryRow(s.t.Context(), "SELECT count(*) FROM notes WHERE id BETWEEN 1 AND 3").Scan(&n))
		require.Equal(s.t, 3, n)
	}
}

// Every position of a request, with every value.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	s := besiege(t)
	for _, v := range hostile {
		e, p := url.QueryEscape(v), url.PathEscape(v)
		quoted, _ := json.Marshal(v)
		for _, path := range []string{"/rest/v1/" + p, "/rest/v1/rpc/" + p, "/" + p, "/rest/v1/notes/" + p, "/sql/" + p} {
			s.send(http.MethodGet, path, "")
		}
		for _, q := range []string{"id=eq." + e, "owner=eq." + e, "owner=in.(" + e + ")", e + "=eq.1", "select=" + e, "order=" + e, "or=(" + e + ")", "limit=" + e,
			"select=id->" + e, "select=x:" + e, "owner=fts(" + e + ").x", "columns=" + e, "on_conflict=" + e, "select=" + e + "(*)", v} {
			s.send(http.MethodGet, "/rest/v1/notes?"+q, "")
		}
		s.send(http.MethodGet, "/rest/v1/rpc/version?x="+e, "")
		s.send(http.MethodPost, "/rest/v1/rpc/version", `{`+string(quoted)+`:1}`)
		s.send(http.MethodPost, "/rest/v1/notes?columns="+e, `[{"id":1}]`)
		s.send(http.MethodDelete, "/rest/v1/notes?id=eq."+e+"&owner=eq.nobody", "")
		for _, body := range []string{v, `{` + string(quoted) + `:1}`, `{"id":` + string(quoted) + `,"owner":"a","body":"b"}`} {
			s.send(http.MethodPost, "/rest/v1/notes", body)
			s.send(http.MethodPatch, "/rest/v1/notes?id=eq.0", body)
			s.send(http.MethodPost, "/sql", body)
		}
		for _, h := range []string{"Accept", "Accept-Encoding", "Accept-Profile", "Content-Profile", "Prefer", "Range", "Range-Unit", "Cookie", "Origin", "X-Request-Id", "Traceparent",
			"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Content-Type", "Content-Encoding", "If-None-Match", "Apikey", "X-Tenant-Id", "Access-Control-Request-Headers"} {
			if len(v) < 5000 {
				s.send(http.MethodGet, "/rest/v1/notes?limit=1", "", h, v)
				s.send(http.MethodPost, "/rest/v1/rpc/version", "{}", h, v)
			}
		}
		if len(v) < 5000 {
			s.send(http.MethodGet, "/rest/v1/notes", "", "Authorization", "Bearer "+v)
			s.send(http.MethodOptions, "/rest/v1/notes", "", "Origin", v, "Access-Control-Request-Method", v)
		}
	}
	s.untouched()
}

// What is large, deep or many costs a bounded time.
func TestHostileSizes(t *testing.T) {
	t.Parallel()
	s := besiege(t)
	many := func(n int, f func(int) string, with string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = f(i)
		}
		return strings.Join(parts, with)
	}
	for what, c := range map[string]struct {
		method, path, body string
		headers            []string
		want               []int
	}{
		"10 MB body":             {"POST", "/rest/v1/notes", `[{"body":"` + strings.Repeat("x", 10<<20) + `"}]`, nil, []int{413}},
		"10 MB without a token":  {"POST", "/rest/v1/notes", strings.Repeat("x", 10<<20), []string{"Authorization", "Basic x"}, []int{401, 413}},
		"deep array":             {"POST", "/rest/v1/notes", strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), nil, []int{400}},
		"deep object":            {"POST", "/rest/v1/notes", strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), nil, []int{400}},
		"huge exponents":         {"POST", "/rest/v1/notes", `[` + many(500, func(int) string { return `{"id":1e131071}` }, ",") + `]`, nil, []int{400}},
		"100 KB URL":             {"GET", "/rest/v1/notes?owner=eq." + strings.Repeat("x", 100<<10), "", nil, []int{414, 431}},
		"list of 100,000":        {"GET", "/rest/v1/notes?id=in.(" + many(100_000, func(i int) string { return fmt.Sprint(i) }, ",") + ")", "", nil, []int{414, 431}},
		"as long a list as fits": {"GET", "/rest/v1/notes?id=in.(" + many(3000, func(i int) string { return fmt.Sprint(i) }, ",") + ")", "", nil, []int{200}},
		"1,000 filters":          {"GET", "/rest/v1/notes?" + many(1000, func(i int) string { return fmt.Sprintf("id=neq.%d", i+10) }, "&"), "", nil, nil},
		"1,000 embeds":           {"GET", "/rest/v1/notes?select=" + many(1000, func(i int) string { return fmt.Sprintf("a%d:notes(id)", i) }, ","), "", nil, nil},
		"1,000 columns":          {"GET", "/rest/v1/notes?select=" + many(1000, func(i int) string { return fmt.Sprintf("a%d:body", i) }, ","), "", nil, nil},
		"1,000 orders":           {"GET", "/rest/v1/notes?order=" + many(1500, func(int) string { return "id.desc" }, ","), "", nil, nil},
		"deep and":               {"GET", "/rest/v1/notes?or=" + strings.Repeat("(and", 1000) + "(id.eq.1,id.eq.2)" + strings.Repeat(")", 1000), "", nil, nil},
		"huge limit":             {"GET", "/rest/v1/notes?limit=9223372036854775807&offset=9223372036854775807", "", nil, nil},
		"huger limit":            {"GET", "/rest/v1/notes?limit=99999999999999999999", "", nil, nil},
		"huge range":             {"GET", "/rest/v1/notes", "", []string{"Range", "9223372036854775807-9223372036854775807"}, nil},
		"range backwards":        {"GET", "/rest/v1/notes", "", []string{"Range", "10-1"}, []int{416}},
		"flood of preferences":   {"GET", "/rest/v1/notes?limit=1", "", []string{"Prefer", many(1000, func(i int) string { return fmt.Sprintf("x%d=1", i) }, ",")}, []int{200}},
		"flood of types":         {"GET", "/rest/v1/notes?limit=1", "", []string{"Accept", many(700, func(i int) string { return fmt.Sprintf("a/b;q=0.%d", i) }, ",")}, nil},
		"flood of headers":       {"GET", "/rest/v1/notes?limit=1", "", flood(2000), []int{431}},
		"costly pattern":         {"GET", "/rest/v1/notes?body=match." + url.QueryEscape(strings.Repeat("(x*)*", 20)+"y"), "", nil, nil},
	} {
		begun := time.Now()
		status := s.send(c.method, c.path, c.body, c.headers...)
		if c.want != nil {
			require.Contains(t, c.want, status, what)
		}
		require.Less(t, time.Since(begun), 40*time.Second, what)
	}
	s.untouched()
}

func flood(n int) (headers []string) {
	for i := range n {
		headers = append(headers, fmt.Sprintf("X-Flood-%d", i), "x")
	}
	return headers
}

// What is no HTTP, or HTTP that can be read in two ways.
func TestHostileConnections(t *testing.T) {
	t.Parallel()
	s := besiege(t)
	address := strings.TrimPrefix(s.node.URL(), "http://")
	head := "Host: h\r\nAuthorization: Bearer " + s.token + "\r\n"
	for what, text := range map[string]string{
		"nonsense":              "\x00\x01\x02\r\n\r\n",
		"TLS":                   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HTTP/2 without TLS":    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"upgrade":               "GET /rest/v1/notes HTTP/1.1\r\n" + head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"length and chunks":     "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /rest/v1/notes HTTP/1.1\r\n" + head + "\r\n",
		"two lengths":           "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\n[{}]",
		"a huge chunk":          "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
		"a negative chunk":      "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
		"extensions of a chunk": "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("a", 20_000) + "\r\n[]\r\n0\r\n\r\n",
		"a chunk of LF":         "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n2\n[]\n0\n\n",
		"TE with a space":       "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"TE that is not there":  "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"no version":            "GET /rest/v1/notes\r\n\r\n",
		"version 9":             "GET /rest/v1/notes HTTP/9.9\r\n" + head + "\r\n",
		"a NUL in a header":     "GET /rest/v1/notes HTTP/1.1\r\n" + head + "X: a\x00b\r\n\r\n",
		"a NUL in the path":     "GET /rest/v1/no\x00tes HTTP/1.1\r\n" + head + "\r\n",
		"a path of bytes":       "GET /rest/v1/\xff\xfe HTTP/1.1\r\n" + head + "\r\n",
		"half an escape":        "GET /rest/v1/%f HTTP/1.1\r\n" + head + "\r\n",
		"a method of its own":   "'DROP /rest/v1/notes HTTP/1.1\r\n" + head + "\r\n",
		"CONNECT":               "CONNECT rival:1 HTTP/1.1\r\n" + head + "\r\n",
		"an asterisk":           "OPTIONS * HTTP/1.1\r\n" + head + "\r\n",
		"a body that ends":      "POST /rest/v1/notes HTTP/1.1\r\n" + head + "Content-Length: 1000\r\n\r\n[{",
	} {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		r := bufio.NewReader(conn)
		answers := 0
		for ; ; answers++ {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				break
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusNotImplemented && resp.StatusCode != http.StatusHTTPVersionNotSupported { // which say what they are
				s.sound(what, resp.StatusCode, string(body))
			}
		}
		require.LessOrEqual(t, answers, 1, what)
		require.NoError(t, conn.Close())
	}

	// Heads that come a byte at a time hold nobody up, and have an end.
	slow := make([]net.Conn, 100)
	for i := range slow {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /rest/v1/notes HTTP/1.1\r\nX: ")
		require.NoError(t, err)
		slow[i] = conn
	}
	s.untouched()
	require.NoError(t, slow[0].SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, slow[0])
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the node ends it")
}
