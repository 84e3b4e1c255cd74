package shard

import "context"

// LeaveAjar is what is left of setAjar once it has seen a fenced database.
var LeaveAjar = leaveAjar

// Enter takes the lock of a change, and keeps it.
func (r *Routes) Enter(ctx context.Context) error { return r.enter(ctx) }
