package admintest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// GrantedPassword is that of every temporary login.
const GrantedPassword = "only-once-37"

// Logins stand for the temporary logins at the servers.
type Logins struct {
	mu     sync.Mutex
	logins map[string]shardmap.ShardID
	used   map[string]bool
	away   bool
}

// Use has a login have a session.
func (l *Logins) Use(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used[user] = true
}

// Away has the servers answer nothing from now on, or answer again.
func (l *Logins) Away(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// Has tells whether there is a login.
func (l *Logins) Has(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.logins[user]
	return ok
}

var errAway = errors.New("no route to host")

// Make makes a login up.
func (l *Logins) Make(_ context.Context, on shardmap.ShardID, _, user string, _ shard.Access, ttl time.Duration) (secret.Login, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return secret.Login{}, time.Time{}, errAway
	}
	l.logins[user] = on
	return secret.Login{User: user, Password: GrantedPassword}, time.Now().Add(ttl), nil
}

// Drop forgets one.
func (l *Logins) Drop(_ context.Context, on shardmap.ShardID, _, user string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return errAway
	}
	if l.logins[user] == on {
		delete(l.logins, user)
	}
	return nil
}

// Sessions has each login that is used have one.
func (l *Logins) Sessions(_ context.Context, on shardmap.ShardID) (all []shard.TempSession, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return nil, errAway
	}
	for user, at := range l.logins {
		if at == on && l.used[user] {
			all = append(all, shard.TempSession{User: user, PID: 1, Since: time.Unix(1e9, 0), From: "192.0.2.7", Program: "psql"})
		}
	}
	return all, nil
}
