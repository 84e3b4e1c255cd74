package pgtest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Where servers of tests keep their state: both are traversable by the
// servers' account, unlike most of what TMPDIR says.
const (
	inMemory = "/dev/shm"
	onDisk   = "/var/tmp"
)

// roomy is what must be free, in bytes, for tests to use memory as a disk.
const roomy = 8 << 30

// prefix begins the name of every directory; the process's ID follows.
const prefix = "freehold-test-"

// TempDir makes a directory for servers that a test starts by other means than
// this package's. It is removed when the test ends, and what a killed test
// binary leaves of it by the next one.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := NewDir()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return dir
}

// NewDir is TempDir for a TestMain, which removes the directory itself.
func NewDir() (string, error) {
	dir, err := os.MkdirTemp(root(), prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711) //nolint:gosec // the servers' account passes through; each of its directories is 0700
}

// everyDir lists the directories of all test binaries.
func everyDir() (dirs []string) {
	for _, root := range []string{inMemory, onDisk} {
		more, _ := filepath.Glob(filepath.Join(root, prefix+"*")) // the pattern is a constant
		dirs = append(dirs, more...)
	}
	return dirs
}

// root is in memory, where there is enough of it: tests make and drop databases of
// hundreds of files all the time, which costs a disk's file system as much as Postgres.
func root() string {
	var fs syscall.Statfs_t
	const tmpfs = 0x01021994
	if syscall.Statfs(inMemory, &fs) != nil || fs.Type != tmpfs || fs.Bavail*uint64(fs.Bsize) < roomy || available() < roomy || confined() { //nolint:gosec // a size is not negative
		return onDisk
	}
	return inMemory
}

// confined tells whether we may use less memory than there is, as in many
// containers: what is in a tmpfs counts there.
func confined() bool {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	files := []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} // ours, if we see no others
	for line := range strings.Lines(string(groups)) {
		switch part := strings.SplitN(strings.TrimSpace(line), ":", 3); {
		case len(part) < 3:
		case part[1] == "":
			files = append(files, filepath.Join("/sys/fs/cgroup", part[2], "memory.max"))
		case part[1] == "memory":
			files = append(files, filepath.Join("/sys/fs/cgroup/memory", part[2], "memory.limit_in_bytes"))
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && limit < 2*roomy {
			return true
		}
	}
	return false
}

// available is how much memory could be had, in bytes; 0: not known.
func available() (n uint64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // it is only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}
