package vault

import (
	"sync"
	"time"
)

// awayFor is how long nobody asks after Vault did not answer: a caller that
// has a lease to fall back on should not wait for a server that hangs.
const awayFor = time.Second

// breaker lets one call at a time try whether Vault is back.
type breaker struct {
	mu      sync.Mutex
	away    bool
	probing bool
	until   time.Time
}

// pass tells whether a call may be made; it must be followed by note or release.
func (b *breaker) pass() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.away {
		return true
	}
	if b.probing || time.Now().Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// note says whether Vault answered, and tells whether that is new.
func (b *breaker) note(answered bool) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = b.away == answered
	b.away, b.probing = !answered, false
	if !answered {
		b.until = time.Now().Add(awayFor)
	}
	return changed
}

// release says that the call came to nothing.
func (b *breaker) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}
