package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/freehold-db/freehold/shardmap"
)

// Info is dev.json: how to reach every part of a running fleet. It holds
// passwords; the file has mode 0600.
type Info struct {
	AdminURL      string         `json:"admin_url"`
	AdminURLs     []string       `json:"admin_urls"` // of all replicas, AdminURL first
	AdminToken    string         `json:"admin_token"`
	DataplaneURLs []string       `json:"dataplane_urls"`
	OpsURLs       []string       `json:"ops_urls"` // of the same nodes: metrics
	IssuerURL     string         `json:"issuer_url"`
	NATSURL       string         `json:"nats_url"`
	CatalogDSN    string         `json:"catalog_dsn"`
	Shards        []ShardInfo    `json:"shards"`
	PIDs          map[string]int `json:"pids"`
	// Secure: all links are by TLS. CAFile holds the root of every certificate,
	// CertFile and KeyFile what an operator shows, such as at AdminURL.
	Secure   bool   `json:"tls"`
	CAFile   string `json:"ca_file,omitempty"`
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
}

// ShardInfo is how to reach one shard, as its superuser.
type ShardInfo struct {
	ID                shardmap.ShardID `json:"id"`
	PostgresDSN       string           `json:"postgres_dsn"`
	PgbouncerDSN      string           `json:"pgbouncer_dsn"`
	PgbouncerAdminDSN string           `json:"pgbouncer_admin_dsn"`
}

// Read returns the Info of the fleet that runs in dir, or [ErrNotRunning].
func Read(dir string) (Info, error) {
	l := layout(dir)
	pid, err := holder(l)
	if err != nil {
		return Info{}, fmt.Errorf("dev fleet in %s: %w", dir, err)
	}
	if pid == 0 {
		return Info{}, fmt.Errorf("%w: %s (start one with `tenant-ops dev --dir %s`)", ErrNotRunning, dir, dir)
	}
	b, err := os.ReadFile(l.info())
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%w yet: %s is still starting, process %d", ErrNotRunning, dir, pid)
	}
	if err != nil {
		return Info{}, fmt.Errorf("dev fleet in %s: %w", dir, err)
	}
	var info Info
	if err := json.Unmarshal(b, &info); err != nil {
		return Info{}, fmt.Errorf("%s: %w", l.info(), err)
	}
	return info, nil
}
