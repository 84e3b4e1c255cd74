// Package timing tells a client where the time of its request went, by the
// header Server-Timing as PostgREST has it.
//
// Import law: timing imports no other package of this module.
package timing

import (
	"context"
	"strconv"
	"time"
)

// Stage is a part of a request's way.
type Stage int

// The stages. Queue is ours: the wait for the body, for the request's turn, and
// for a connection. The others are PostgREST's.
const (
	JWT Stage = iota
	Queue
	Parse
	Plan
	Transaction
	Response
	stages
)

var names = [stages]string{"jwt", "queue", "parse", "plan", "transaction", "response"}

// Times are what one request took so far. A nil one measures nothing.
type Times struct {
	last time.Time
	took [stages]time.Duration
}

// Start begins to measure.
func Start() *Times { return &Times{last: time.Now()} }

// Mark says that the time since the last mark was of that stage.
func (t *Times) Mark(s Stage) {
	if t == nil {
		return
	}
	now := time.Now()
	t.took[s] += now.Sub(t.last)
	t.last = now
}

// Header is the value of Server-Timing: milliseconds of each stage, in order.
func (t *Times) Header() string {
	var b []byte
	for s, took := range t.took {
		if s > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, names[s]...), ";dur="...)
		b = strconv.AppendFloat(b, took.Seconds()*1000, 'f', 1, 64)
	}
	return string(b)
}

// Key finds a request's *Times in its context.
type Key struct{}

// From finds a request's times; nil when they are not measured.
func From(ctx context.Context) *Times {
	t, _ := ctx.Value(Key{}).(*Times)
	return t
}
