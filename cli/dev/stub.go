package dev

import (
	"context"
	"net"
	"net/http"

	"github.com/freehold-db/freehold/controlplane"
)

// Until the servers land.
type fake struct{ s *http.Server }

func (f *fake) Stop(ctx context.Context) error { return f.s.Shutdown(ctx) }

func startFake(listen string) (stopper, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte("{}"))
	})}
	go s.Serve(l)
	return &fake{s}, nil
}

// StartControlPlane will be controlplane.Start.
func StartControlPlane(ctx context.Context, cfg controlplane.Config) (stopper, error) {
	return startFake(cfg.Listen)
}
