package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/internal/access"
)

// connectionHeader is where the Neon driver sends its connection string, whose password is the credential.
const connectionHeader = "Neon-Connection-String"

// credentials are what a request shows: one that decides who asks, and perhaps
// an API key beside a token, which must be of the same tenant.
type credentials struct{ main, beside string }

// credentialsOf finds the credentials of a request. With two of a kind, whoever
// stands in front of us may have checked the other, so that is refused.
func credentialsOf(r *http.Request) (credentials, error) {
	bearer, err := bearerOf(r)
	if err != nil {
		return credentials{}, err
	}
	key, err := keyOf(r)
	if err != nil {
		return credentials{}, err
	}
	switch {
	case bearer == "" && key == "":
		return credentials{}, anonymous()
	case key == "", key == bearer:
		return credentials{main: bearer}, nil
	case bearer == "":
		return credentials{main: key}, nil
	case strings.HasPrefix(key, access.KeyPrefix) && !strings.HasPrefix(bearer, access.KeyPrefix):
		return credentials{main: bearer, beside: key}, nil
	}
	return credentials{}, twoCredentials()
}

func bearerOf(r *http.Request) (string, error) {
	values := r.Header["Authorization"]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		scheme, token, _ := strings.Cut(values[0], " ")
		switch token = strings.TrimSpace(token); {
		case !strings.EqualFold(scheme, "Bearer"):
			return "", anonymous()
		case token == "":
			return "", challenge(fault.New(http.StatusUnauthorized, "PGRST301", "Empty JWT is sent in Authorization header"))
		}
		return token, nil
	}
	return "", noCredential("The request has several Authorization headers", "Send one.")
}

// keyOf is what a client sends beside the bearer token: as the header apikey
// (supabase-js), or as the password of a connection string (the Neon driver).
func keyOf(r *http.Request) (string, error) {
	keys, connections := r.Header["Apikey"], r.Header[connectionHeader]
	if len(keys) > 1 || len(connections) > 1 {
		return "", noCredential("The request has several API keys", "Send one.")
	}
	key := ""
	if len(keys) == 1 {
		key = keys[0]
	}
	if len(connections) == 0 || r.URL.Path != sqlPath {
		return key, nil
	}
	u, err := url.Parse(connections[0])
	if err != nil {
		return "", noCredential("The connection string is not valid", "It must be like postgresql://user:<API key>@host/database.")
	}
	password, _ := u.User.Password()
	switch known := key != "" || len(r.Header["Authorization"]) > 0; {
	case known && !strings.HasPrefix(password, access.KeyPrefix):
		return key, nil // of no meaning to us: something else says who asks
	case key != "" && key != password:
		return "", twoCredentials()
	}
	return password, nil
}

// sqlPath is where a connection string is a credential.
const sqlPath = "/sql"

// anonymous is PostgREST's refusal of a request without a token.
func anonymous() *fault.Fault {
	return fault.New(http.StatusUnauthorized, "PGRST302", "Anonymous access is disabled")
}

// noCredential is PostgREST's code for a request that shows nothing to be judged.
func noCredential(message, hint string) *fault.Fault {
	return fault.New(http.StatusUnauthorized, "PGRST302", message).WithHint(hint)
}

func twoCredentials() *fault.Fault {
	return noCredential("The request has two different credentials", "Send the same one twice, or an API key beside a token of its tenant.")
}
