package issuer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Server serves a signer's public key and OIDC discovery document.
type Server struct {
	*Signer
	http *http.Server
	done chan struct{}
}

// Start makes the key in dir if there is none, listens on addr (port 0: a free
// one) and notes its URL in dir for [Open]. Give the same addr after a restart:
// the URL is part of every token.
func Start(ctx context.Context, dir, addr string) (*Server, error) {
	return start(ctx, dir, addr, nil)
}

// StartTLS is Start over HTTPS.
func StartTLS(ctx context.Context, dir, addr string, secure *tls.Config) (*Server, error) {
	return start(ctx, dir, addr, secure)
}

func start(ctx context.Context, dir, addr string, secure *tls.Config) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	key, err := loadOrCreateKey(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	iss := "http://" + l.Addr().String()
	if secure != nil {
		l, iss = tls.NewListener(l, secure), "https://"+l.Addr().String()
	}
	s := &Server{Signer: newSigner(key, iss), done: make(chan struct{})}
	if err := replace(filepath.Join(dir, urlFile), []byte(s.iss+"\n")); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	s.http = &http.Server{Handler: s.handler(dir), ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // always ErrServerClosed after Stop; a broken listener shows as failing fetches
	}()
	return s, nil
}

// URL is the issuer's address and the iss of its tokens.
func (s *Server) URL() string { return s.iss }

// JWKSURL is where the public key is served.
func (s *Server) JWKSURL() string { return s.iss + "/.well-known/jwks.json" }

// Stop ends the server, or returns ctx's error if requests keep it busy that long.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

func (s *Server) handler(dir string) http.Handler {
	jwks := s.JWKS()
	people := newDesk(s.Signer, dir)
	said := people.discovery()
	maps.Copy(said, map[string]any{
		"issuer": s.iss, "jwks_uri": s.JWKSURL(),
		"id_token_signing_alg_values_supported": []string{"EdDSA"},
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
	})
	discovery, err := json.Marshal(said)
	if err != nil { // strings cannot fail
		panic(err)
	}
	serve := func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "max-age=300")
			_, _ = w.Write(body)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /.well-known/jwks.json", serve("application/jwk-set+json", jwks))
	mux.Handle("GET /.well-known/openid-configuration", serve("application/json", discovery))
	people.routes(mux)
	mux.Handle("GET /healthz", serve("text/plain; charset=utf-8", []byte("ok\n")))
	return mux
}

func replace(path string, b []byte) error {
	tmp, err := writeTemp(path, b)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}
