package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/shardmap/feed"
)

// probeFor bounds the question whether the control plane is there.
const probeFor = 500 * time.Millisecond

var errNoPlacements = errors.New("placements, and who may do what, are not known yet: neither NATS nor the control plane could be asked")

// source is where placements come from, and what else is known of tenants.
type source struct {
	*feed.Feed
	places    *shardmap.Map
	directory *access.Directory
	usable    atomic.Bool // once true, it stays: known tenants are served whatever goes away
}

func newSource(cfg Config, log *slog.Logger) (*source, error) {
	s := &source{}
	var control []string
	if cfg.ControlURL != "" {
		control = strings.Split(cfg.ControlURL, ",")
	}
	var token string
	if cfg.ControlTokenFile != "" {
		b, err := os.ReadFile(cfg.ControlTokenFile)
		if err != nil {
			return nil, fmt.Errorf("control_token_file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	var err error
	s.Feed, err = feed.New(feed.Config{Node: cfg.Name, NATS: cfg.nats(), Control: control, ControlToken: token,
		ControlTLS: clienttls.Files{CA: cfg.ControlCAFile, Certificate: cfg.ControlCertFile, Key: cfg.ControlKeyFile}, Log: log})
	if err != nil {
		return nil, err
	}
	s.places = shardmap.NewMap(shardmap.MapConfig{Size: cfg.MapSize}, s.Feed)
	s.directory = access.NewDirectory(s.LoadAccess)
	return s, nil
}

// publish carries an audit event to the control plane.
func (s *source) publish(ctx context.Context, e access.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.Publish(ctx, access.AuditSubject+shardmap.NodeToken(e.Node), e.ID, data)
}

// ready tells why no placement could be looked up, or nil. What was good once
// stays good: without NATS and control plane, known tenants are served.
func (s *source) ready() error {
	if s.usable.Load() {
		return nil
	}
	if (!s.Synced() || !s.directory.Synced()) && !s.controlAnswers() {
		return errNoPlacements
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeFor)
	defer cancel()
	if err := s.directory.Ready(ctx); err != nil {
		return err
	}
	s.usable.Store(true)
	return nil
}

func (s *source) controlAnswers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), probeFor)
	defer cancel()
	return s.ControlAnswers(ctx)
}
