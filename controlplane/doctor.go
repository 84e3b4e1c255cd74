package controlplane

import (
	"github.com/freehold-db/freehold/controlplane/doctor"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secretstore"
)

// expected is what the configuration has the fleet be.
func (s *Server) expected(channel *pg.Channel, a *auditing) doctor.Expect {
	e := doctor.Expect{Production: s.cfg.Environment == secretstore.Production, TLS: channel.On(), Migrations: s.cfg.MigrationsDir, Audit: a.state}
	if s.cfg.SecretStore == secretstore.Dir {
		e.SecretsDir = s.cfg.SecretsDir
	}
	return e
}
