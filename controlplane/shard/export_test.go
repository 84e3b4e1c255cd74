package shard

// LeaveAjar is what is left of setAjar once it has seen a fenced database.
var LeaveAjar = leaveAjar
