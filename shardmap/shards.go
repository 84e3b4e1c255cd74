package shardmap

import (
	"context"
	"errors"
	"fmt"
)

// Shard returns how to reach a shard, from memory or by asking the loader. It
// returns an error wrapping ErrUnknownShard, ErrUnresolved, or ctx's error.
func (m *Map) Shard(ctx context.Context, id ShardID) (Shard, error) {
	if s, ok := m.shard(id); ok {
		return s, nil
	}
	return m.RefreshShard(ctx, id)
}

// RefreshShard asks the loader for a shard's address (once for all who ask
// meanwhile), for when the remembered one leads nowhere. Errors are those of
// [Map.Shard]; the remembered address stays.
func (m *Map) RefreshShard(ctx context.Context, id ShardID) (Shard, error) {
	load := m.shardMisses.DoChan(string(id), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.LoadTimeout)
		defer cancel()
		s, err := m.loader.LoadShard(ctx, id)
		switch {
		case errors.Is(err, ErrUnknownShard):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnresolved, err)
		}
		m.ApplyShard(s)
		return nil, nil
	})
	select {
	case r := <-load:
		if r.Err != nil {
			return Shard{}, fmt.Errorf("shard %s: %w", id, r.Err)
		}
	case <-ctx.Done():
		return Shard{}, fmt.Errorf("shard %s: look up address: %w", id, ctx.Err())
	}
	if s, ok := m.shard(id); ok {
		return s, nil
	}
	return Shard{}, fmt.Errorf("shard %s: %w: the answer was about another shard or malformed", id, ErrUnresolved)
}

func (m *Map) shard(id ShardID) (Shard, bool) {
	m.shardsMu.RLock()
	defer m.shardsMu.RUnlock()
	s, ok := m.shards[id]
	return s, ok
}

// ApplyShard takes a shard's address in if its version is newer than the
// remembered one, and tells whether it was.
func (m *Map) ApplyShard(s Shard) bool {
	if _, err := ParseShardID(string(s.ID)); err != nil || s.Host == "" || s.Port == 0 {
		m.stats.invalid.Add(1)
		return false
	}
	m.shardsMu.Lock()
	defer m.shardsMu.Unlock()
	if was, ok := m.shards[s.ID]; ok && s.Version <= was.Version {
		return false
	}
	m.shards[s.ID] = s
	return true
}
