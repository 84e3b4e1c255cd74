package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// How long what is handed out is good for.
const (
	codeFor    = time.Minute
	deviceFor  = 10 * time.Minute
	refreshFor = 12 * time.Hour
	personFor  = 10 * time.Minute
	pollEvery  = 1 // seconds
	maxGrants  = 10_000
	maxForm    = 16 << 10
)

// desk is where people sign in: the authorization code flow with PKCE, device
// authorization, and refreshing. What is under way is kept in memory alone.
type desk struct {
	*Signer
	dir string

	mu      sync.Mutex
	codes   map[string]code    // by SHA-256
	devices map[string]*device // by device code's SHA-256
	refresh map[string]session // by SHA-256
}

type code struct {
	who                        Person
	redirect, challenge, nonce string
	until                      time.Time
}

type device struct {
	user  string // what the person enters
	who   *Person
	until time.Time
}

type session struct {
	who   Person
	until time.Time
}

func newDesk(s *Signer, dir string) *desk {
	return &desk{Signer: s, dir: dir, codes: map[string]code{}, devices: map[string]*device{}, refresh: map[string]session{}}
}

func (d *desk) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /authorize", d.authorize)
	mux.HandleFunc("POST /authorize", d.authorize)
	mux.HandleFunc("POST /token", d.token)
	mux.HandleFunc("POST /device_authorization", d.beginDevice)
	mux.HandleFunc("GET /device", d.enterDevice)
	mux.HandleFunc("POST /device", d.enterDevice)
}

// discovery is what the discovery document says of signing in.
func (d *desk) discovery() map[string]any {
	return map[string]any{
		"authorization_endpoint": d.iss + "/authorize", "token_endpoint": d.iss + "/token", "device_authorization_endpoint": d.iss + "/device_authorization",
		"grant_types_supported":            []string{"authorization_code", "refresh_token", grantDevice},
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none"},
		"authorization_response_iss_parameter_supported": true,
	}
}

const grantDevice = "urn:ietf:params:oauth:grant-type:device_code"

var page = template.Must(template.New("").Parse(`<!doctype html><meta charset="utf-8"><title>Sign in</title>
<h1>Development issuer</h1>{{with .Wrong}}<p>{{.}}</p>{{end}}
<form method="post">{{range $k, $v := .Hidden}}<input type="hidden" name="{{$k}}" value="{{$v}}">{{end}}
{{if .Device}}<p><label>Code <input name="user_code" value="{{.Code}}" autocomplete="off"></label></p>{{end}}
<p><label>Name <input name="name" autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>
<p><button>Sign in</button></p></form>`))

type form struct {
	Wrong  string
	Hidden map[string]string
	Device bool
	Code   string
}

func show(w http.ResponseWriter, status int, f form) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_ = page.Execute(w, f) // to somebody who has left
}

// authorize shows the form, and sends who fills it in back with a code.
func (d *desk) authorize(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	q := r.Form
	redirect, err := url.Parse(q.Get("redirect_uri"))
	// Whom we can't be sure of is told here, and sent nowhere.
	if err != nil || redirect.Scheme != "http" || !loopback(redirect.Hostname()) || redirect.User != nil || q.Get("client_id") != ClientID {
		http.Error(w, "client_id or redirect_uri is not one that is known here", http.StatusBadRequest)
		return
	}
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 {
		http.Error(w, "want response_type=code, with a code_challenge of method S256", http.StatusBadRequest)
		return
	}
	f := form{Hidden: map[string]string{}}
	for _, name := range []string{"response_type", "client_id", "redirect_uri", "state", "nonce", "scope", "code_challenge", "code_challenge_method"} {
		f.Hidden[name] = q.Get(name)
	}
	if r.Method == http.MethodGet {
		show(w, http.StatusOK, f)
		return
	}
	who, ok := check(d.dir, r.PostForm.Get("name"), r.PostForm.Get("password"))
	if !ok {
		f.Wrong = "That is not a name and its password."
		show(w, http.StatusForbidden, f)
		return
	}
	text := random()
	d.mu.Lock()
	d.forget()
	d.codes[digest(text)] = code{who, redirect.String(), q.Get("code_challenge"), q.Get("nonce"), time.Now().Add(codeFor)}
	d.mu.Unlock()
	back := redirect.Query()
	back.Set("code", text)
	back.Set("state", q.Get("state"))
	back.Set("iss", d.iss)
	redirect.RawQuery = back.Encode()
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, redirect.String(), http.StatusSeeOther)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// forget drops what is over; the caller holds mu.
func (d *desk) forget() {
	now := time.Now()
	for k, v := range d.codes {
		if now.After(v.until) || len(d.codes) > maxGrants {
			delete(d.codes, k)
		}
	}
	for k, v := range d.devices {
		if now.After(v.until) || len(d.devices) > maxGrants {
			delete(d.devices, k)
		}
	}
	for k, v := range d.refresh {
		if now.After(v.until) || len(d.refresh) > maxGrants {
			delete(d.refresh, k)
		}
	}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// token gives tokens for a code, a device's code or a refresh token; each is taken once.
func (d *desk) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") != ClientID {
		refuse(w, "invalid_client")
		return
	}
	who, nonce, problem := d.redeem(r.PostForm)
	if problem != "" {
		refuse(w, problem)
		return
	}
	refresh := random()
	d.mu.Lock()
	d.refresh[digest(refresh)] = session{who, time.Now().Add(refreshFor)}
	d.mu.Unlock()
	access, err := d.MintPerson(who, personFor, "")
	id, iderr := d.MintPerson(who, personFor, nonce)
	if err != nil || iderr != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, map[string]any{"access_token": access, "id_token": id, "refresh_token": refresh, "token_type": "Bearer", "expires_in": int(personFor.Seconds())})
}

func (d *desk) redeem(f url.Values) (who Person, nonce, problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget()
	switch f.Get("grant_type") {
	case "authorization_code":
		key := digest(f.Get("code"))
		c, ok := d.codes[key]
		delete(d.codes, key)
		challenge := digest(f.Get("code_verifier"))
		if !ok || c.redirect != f.Get("redirect_uri") || subtle.ConstantTimeCompare([]byte(challenge), []byte(c.challenge)) != 1 {
			return who, "", "invalid_grant"
		}
		return c.who, c.nonce, ""
	case "refresh_token":
		key := digest(f.Get("refresh_token"))
		s, ok := d.refresh[key]
		delete(d.refresh, key)
		if !ok {
			return who, "", "invalid_grant"
		}
		return s.who, "", ""
	case grantDevice:
		key := digest(f.Get("device_code"))
		one, ok := d.devices[key]
		switch {
		case !ok:
			return who, "", "expired_token"
		case one.who == nil:
			return who, "", "authorization_pending"
		}
		delete(d.devices, key)
		return *one.who, "", ""
	}
	return who, "", "unsupported_grant_type"
}

// beginDevice gives a machine without a browser a code, and its person another.
func (d *desk) beginDevice(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") != ClientID {
		refuse(w, "invalid_client")
		return
	}
	text, user := random(), userCode()
	d.mu.Lock()
	d.forget()
	d.devices[digest(text)] = &device{user: user, until: time.Now().Add(deviceFor)}
	d.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"device_code": text, "user_code": user, "verification_uri": d.iss + "/device",
		"verification_uri_complete": d.iss + "/device?user_code=" + user, "expires_in": int(deviceFor.Seconds()), "interval": pollEvery})
}

// userCode is easy to read and to enter, and hard enough to guess for ten minutes.
func userCode() string {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b[:4]) + "-" + string(b[4:])
}

// enterDevice takes the code that a machine showed, from who signs in.
func (d *desk) enterDevice(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	f := form{Device: true, Code: r.Form.Get("user_code")}
	if r.Method == http.MethodGet {
		show(w, http.StatusOK, f)
		return
	}
	who, ok := check(d.dir, r.PostForm.Get("name"), r.PostForm.Get("password"))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget()
	for _, one := range d.devices {
		if ok && one.who == nil && subtle.ConstantTimeCompare([]byte(one.user), []byte(f.Code)) == 1 {
			one.who = &who
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("The other machine is signed in.\n"))
			return
		}
	}
	f.Wrong = "That is not a code that waits, or not a name and its password."
	show(w, http.StatusForbidden, f)
}

func refuse(w http.ResponseWriter, code string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code})
}

func answer(w http.ResponseWriter, status int, doc map[string]any) {
	body, err := json.Marshal(doc)
	if err != nil { // strings cannot fail
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// personToken is what a person's token claims.
type personToken struct {
	jwt.RegisteredClaims
	Groups []string `json:"groups"`
	AZP    string   `json:"azp"`
	Nonce  string   `json:"nonce,omitempty"`
}

// MintPerson makes a token of a person, for the admin API: its audience is
// [ClientID], so that no data-plane node takes it.
func (s *Signer) MintPerson(p Person, ttl time.Duration, nonce string) (string, error) {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, personToken{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.iss, Audience: jwt.ClaimStrings{ClientID}, Subject: p.Name, ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		Groups: append([]string{}, p.Groups...), AZP: ClientID, Nonce: nonce,
	})
	t.Header["kid"] = s.kid
	return t.SignedString(s.key)
}
