package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roomy is what a disk may hold when it is not full; a tmpfs takes memory for what is in it only.
const roomy = "8g"

// disk is a file system of its own for one part, which can be made full.
type disk struct{ dir string }

// newDisk mounts one and has the part of the fleet in dir keep its state there.
// It says why where that cannot be done: it takes root, and Linux.
func newDisk(t *testing.T, dir, part string) (*disk, error) {
	// Below /var/tmp, which the server's account can enter.
	mount, err := os.MkdirTemp("/var/tmp", "freehold-chaos-")
	if err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size="+roomy+",mode=0755"); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w (and %w)", err, os.Remove(mount))
	}
	t.Cleanup(func() { // before the fleet's own directory goes, which only links here
		deadline := time.Now().Add(20 * time.Second)
		for err := syscall.Unmount(mount, 0); err != nil && time.Now().Before(deadline); err = syscall.Unmount(mount, 0) {
			time.Sleep(100 * time.Millisecond) // sessions of the server may be ending
		}
		if err := os.Remove(mount); err != nil {
			t.Errorf("the disk of %s is left behind: %v", part, err)
		}
	})
	state := filepath.Join(mount, "server")
	link := filepath.Join(dir, "fleet", "server", part)
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o711); err != nil { //nolint:gosec // as the fleet makes it
		return nil, err
	}
	return &disk{mount}, os.Symlink(state, link)
}

// fill leaves no room for anything new.
func (d *disk) fill() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		return err
	}
	for spare := uint64(0); ; spare += 64 { // others write meanwhile, and less than what is there is refused
		size := (st.Blocks - st.Bfree + spare) * uint64(st.Bsize) //nolint:gosec // positive
		err := d.resize(fmt.Sprint(size))
		if err == nil || spare > 4096 {
			return err
		}
	}
}

func (d *disk) empty() error { return d.resize(roomy) }

func (d *disk) resize(size string) error {
	return syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size="+size)
}

// A disk that is full takes nothing more, and does again when there is room.
func TestDisk(t *testing.T) {
	d, err := newDisk(t, t.TempDir(), "part")
	if err != nil {
		t.Skipf("SKIPPED: no disk can be full here: %v", err)
	}
	file := filepath.Join(d.dir, "file")
	lot := []byte(strings.Repeat("x", 1<<20))
	if err := os.WriteFile(file, lot, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.fill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "more"), lot, 0o600); err == nil {
		t.Fatal("a full disk took another file")
	}
	if err := d.empty(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "more"), lot, 0o600); err != nil {
		t.Fatal(err)
	}
}
