//go:build !linux

package process

import "syscall"

// Only Linux can tie a child's life to ours; elsewhere the next start evicts what was left.
func setParentDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}
