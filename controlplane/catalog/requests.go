package catalog

import "context"

// Answer is what a request with a key was answered.
type Answer struct {
	Status int
	Body   []byte
}

// BeginRequest claims key for actor's request with this hash of method, path
// and body. A nil answer and nil error: go on, then call FinishRequest or
// AbandonRequest. An answer: it was done before, send that again.
// Errors: ErrKeyReused (other hash), ErrBusy (still being worked on elsewhere;
// a claim that is not finished after a minute is taken over).
// Keys are forgotten after 24 hours.
func (s *Store) BeginRequest(ctx context.Context, actor, key string, hash []byte) (*Answer, error) {
	return nil, errTODO
}

// FinishRequest stores the answer.
func (s *Store) FinishRequest(ctx context.Context, actor, key string, hash []byte, a Answer) error {
	return errTODO
}

// AbandonRequest gives the claim back, so that the client may try again (answer was a 5xx).
func (s *Store) AbandonRequest(ctx context.Context, actor, key string, hash []byte) error {
	return errTODO
}
