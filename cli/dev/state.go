package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// state is what a fleet remembers between starts. It holds no secret.
type state struct {
	path string

	mu     sync.Mutex
	Shards int            `json:"shards"`
	Nodes  int            `json:"nodes"`
	TLS    bool           `json:"tls,omitempty"`
	Ports  map[string]int `json:"ports"` // by the name of the part
	// PostgresBin are the directories of Postgres's programs of shards that don't run the machine's.
	PostgresBin map[string]string `json:"postgres_bin,omitempty"`
}

func loadState(l layout) (*state, error) {
	s := &state{path: l.state(), Ports: map[string]int{}}
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w (`tenant-ops dev destroy` starts afresh)", s.path, err)
	}
	if s.Ports == nil {
		s.Ports = map[string]int{}
	}
	return s, nil
}

// settle fixes the fleet's size: as asked, as it was, or the default.
func (s *state) settle(o Options) error {
	if o.Shards != 0 && o.Shards < s.Shards {
		return fmt.Errorf("the fleet in %s has %d shards and cannot shrink to %d: move the tenants off and use another directory, or `tenant-ops dev destroy`", o.Dir, s.Shards, o.Shards)
	}
	if o.TLS && !s.TLS && s.Shards != 0 {
		return fmt.Errorf("the fleet in %s was made without TLS: use another directory, or `tenant-ops dev destroy`", o.Dir)
	}
	s.TLS = s.TLS || o.TLS
	s.Shards = first(o.Shards, s.Shards, defaultShards)
	s.Nodes = first(o.Nodes, s.Nodes, defaultNodes)
	for id, dir := range o.PostgresBin {
		if !slices.Contains(s.shardIDs(), id) {
			return fmt.Errorf("the fleet has the shards %s, not %q", strings.Join(s.shardIDs(), ", "), id)
		}
		if s.PostgresBin == nil {
			s.PostgresBin = map[string]string{}
		}
		s.PostgresBin[id] = dir
	}
	return s.save()
}

// grow makes the fleet one shard larger, and names it.
func (s *state) grow() (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Shards++
	return fmt.Sprintf("s%d", s.Shards), s.saveLocked()
}

func (s *state) shardIDs() []string {
	ids := make([]string, s.Shards)
	for i := range ids {
		ids[i] = fmt.Sprintf("s%d", i+1)
	}
	return ids
}

func first(values ...int) int {
	for _, v := range values {
		if v != 0 {
			return v
		}
	}
	return 0
}

func (s *state) port(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Ports[name]
}

func (s *state) setPort(name string, port int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Ports[name] == port {
		return nil
	}
	s.Ports[name] = port
	return s.saveLocked()
}

func (s *state) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveLocked()
}

func (s *state) saveLocked() error { return writeJSON(s.path, s) }

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile replaces a file, mode 0600, whole or not at all.
func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// hold is the right to run the fleet of a directory. The kernel takes it back
// when the process dies, however it dies.
type hold struct{ f *os.File }

// acquire takes the hold, or fails with [ErrRunning].
func acquire(l layout) (*hold, error) {
	f, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, l); err != nil {
		_ = f.Close()
		return nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &hold{f}, nil
}

func flock(f *os.File, l layout) error {
	for attempt := 0; ; attempt++ {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", l.lock(), err)
		}
		// Somebody may only be looking whether it is held; that takes no time.
		if attempt == 5 {
			pid, _ := holder(l)
			return fmt.Errorf("%w: %s, process %d (`tenant-ops dev status`, `tenant-ops dev down`)", ErrRunning, string(l), pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *hold) release() { _ = h.f.Close() }

// holder returns the process that runs the fleet of the directory, 0 if none does.
func holder(l layout) (int, error) {
	f, err := os.Open(l.lock())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return 0, nil // closing gives it back
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, err
	}
	b, err := os.ReadFile(l.lock())
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", l.lock(), err)
	}
	return pid, nil
}
