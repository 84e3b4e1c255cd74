package dev

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"

	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/servertls"
)

// NATSConfig is the configuration file of `tenant-ops dev nats`.
type NATSConfig struct {
	Dir   string          `yaml:"dir"`
	Port  int             `yaml:"port"`
	Users []natsrole.User `yaml:"users"`
	// TLS; empty: plain text.
	TLS servertls.Files `yaml:"tls"`
}

// Start runs the server until it is stopped; life must outlive it.
func (c NATSConfig) Start(life context.Context, log *slog.Logger) (*natsserver.Server, error) {
	secure, err := listenTLS(life, c.TLS, log)
	if err != nil {
		return nil, err
	}
	return natsserver.Start(life, natsserver.Config{Dir: c.Dir, Port: c.Port, Users: c.Users, TLS: secure, Log: log})
}

func (f *Fleet) newNATS() *served {
	const name = natsPart
	return &served{f: f, name: name, make: func(port int) (part, error) {
		users, err := f.natsUsers()
		if err != nil {
			return nil, err
		}
		pair, err := f.certificate(name)
		if err != nil {
			return nil, err
		}
		cfg := NATSConfig{Dir: f.dir.nats(), Port: port, Users: users,
			TLS: servertls.Files{Certificate: pair.Certificate, Key: pair.Key, ClientCA: pair.Root}}
		if f.opts.Processes {
			return f.child(name, []string{"dev", "nats"}, cfg, port, dialable(loopback(port)))
		}
		log, err := f.logger(name)
		if err != nil {
			return nil, err
		}
		return &embedded{run: func(ctx context.Context) (stopper, error) { return orNil(cfg.Start(ctx, log)) }}, nil
	}}
}

// auditorKey names the key by which the control plane adds to the audit log's stream.
const auditorKey = "auditor"

// natsUsers are the fleet's parts by the keys that they show NATS.
func (f *Fleet) natsUsers() (users []natsrole.User, err error) {
	roles := map[string]natsrole.Role{controlPlanePart: natsrole.ControlPlane(), auditorKey: natsrole.Auditor()}
	for _, n := range f.nodes() {
		roles[n] = natsrole.Node(n)
	}
	for name, role := range roles {
		key, failed := natslink.Seed(f.dir.seed(name))
		err = errors.Join(err, failed)
		users = append(users, natsrole.User{Key: key, Role: role})
	}
	return users, err
}

// natsSeed is the file with the seed of a part's key; empty for a NATS of somebody else's, whose URL says who we are.
func (f *Fleet) natsSeed(name string) string {
	if f.opts.ExternalNATS != "" {
		return ""
	}
	return f.dir.seed(name)
}

func (f *Fleet) natsURL() string {
	if f.opts.ExternalNATS != "" {
		return f.opts.ExternalNATS
	}
	u := url.URL{Scheme: "nats", Host: loopback(f.state.port(natsPart))}
	if f.state.TLS {
		u.Scheme = "tls"
	}
	return u.String()
}

func (l layout) seed(name string) string { return filepath.Join(string(l), "keys", name+".nk") }
