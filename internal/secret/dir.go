package secret

import (
	"context"
	"crypto/cipher"
	cryptorand "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	masterKey = "master.key" // 32 bytes in hex, mode 0600
	lockFile  = "lock"       // flock: one writer at a time, of all processes
	tempFile  = "writing"    // the one file being written, under the lock
	fileMagic = "FHS1"       // XChaCha20-Poly1305, path as associated data
	suffix    = ".sealed"
	lockRetry = 20 * time.Millisecond
)

// Dir is the embedded store: one encrypted file per secret. Any number of
// processes may read and write the same directory; a write is durable when Put
// returns, and a reader sees either the old or the new value. It is safe for
// concurrent use and needs no closing.
//
// It guards against a copied or leaked file, not against someone who can read
// the master key; a store that keeps its keys elsewhere can stand in for it.
type Dir struct {
	root string
	aead cipher.AEAD
}

var _ Store = (*Dir)(nil)

// sealed is the plaintext of a file.
type sealed struct {
	Version int64 `json:"version"`
	Login   Login `json:"login"`
}

var pathPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*$`)

// OpenDir opens the store in dir. Directory and master key are created on
// first use, also when several processes come first at once. It refuses a
// master key that others than the owner can read.
func OpenDir(dir string) (*Dir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("secret store: %w", err)
	}
	d := &Dir{root: dir}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	unlock, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	key, err := d.key()
	if err != nil {
		return nil, fmt.Errorf("secret store %s: %w", dir, err)
	}
	if d.aead, err = chacha20poly1305.NewX(key); err != nil {
		return nil, fmt.Errorf("secret store %s: %w", dir, err)
	}
	return d, nil
}

// key reads the master key, or makes it. Called under the lock.
func (d *Dir) key() ([]byte, error) {
	path := filepath.Join(d.root, masterKey)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.unused(); err != nil {
			return nil, err
		}
		key := make([]byte, chacha20poly1305.KeySize)
		_, _ = cryptorand.Read(key)
		return key, d.replace(path, []byte(hex.EncodeToString(key)+"\n"))
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): chmod 600 it", masterKey, info.Mode().Perm())
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%s is not %d bytes in hex", masterKey, chacha20poly1305.KeySize)
	}
	return key, nil
}

// unused refuses a directory that has had a master key: under a new one, what
// was sealed before would be lost for good, and quietly.
func (d *Dir) unused() error {
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), suffix) {
			return fmt.Errorf("%s is missing, and %s was sealed under it: put it back", masterKey, e.Name())
		}
	}
	return nil
}

// Get implements [Store].
func (d *Dir) Get(ctx context.Context, path string) (Login, int64, error) {
	if err := ctx.Err(); err != nil {
		return Login{}, 0, err
	}
	file, err := d.file(path)
	if err != nil {
		return Login{}, 0, err
	}
	s, err := d.read(path, file)
	return s.Login, s.Version, err
}

// Put implements [Store]. A new version is durable when it returns.
func (d *Dir) Put(ctx context.Context, path string, l Login, version int64) (int64, error) {
	file, err := d.file(path)
	if err != nil {
		return 0, err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()

	was, err := d.read(path, file)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	if was.Version != version {
		return 0, fmt.Errorf("secret %s: %w: at version %d, expected %d", path, ErrConflict, was.Version, version)
	}
	plain, err := json.Marshal(sealed{Version: version + 1, Login: l})
	if err != nil {
		return 0, fmt.Errorf("secret %s: %w", path, err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = cryptorand.Read(nonce)
	data := append([]byte(fileMagic), nonce...)
	data = d.aead.Seal(data, nonce, plain, []byte(path))
	if err := d.replace(file, data); err != nil {
		return 0, fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	return version + 1, nil
}

// Delete implements [Store].
func (d *Dir) Delete(ctx context.Context, path string) error {
	file, err := d.file(path)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(file); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	return nil
}

// file maps a path to its file; the pattern leaves no way out of the root.
func (d *Dir) file(path string) (string, error) {
	if !pathPattern.MatchString(path) || len(path) > 200 {
		return "", fmt.Errorf("secret path %.80q: want lower-case words joined by slashes", path)
	}
	return filepath.Join(d.root, filepath.FromSlash(path)) + suffix, nil
}

func (d *Dir) read(path, file string) (sealed, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(d.root, masterKey)); err != nil { // the store itself is away
			return sealed{}, fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
		}
		return sealed{}, fmt.Errorf("secret %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return sealed{}, fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	head := len(fileMagic) + chacha20poly1305.NonceSizeX
	if len(data) < head || string(data[:len(fileMagic)]) != fileMagic {
		return sealed{}, fmt.Errorf("secret %s: not a sealed file", path)
	}
	plain, err := d.aead.Open(nil, data[len(fileMagic):head], data[head:], []byte(path))
	if err != nil {
		return sealed{}, fmt.Errorf("secret %s: altered, moved, or sealed under another master key", path)
	}
	var s sealed
	if err := json.Unmarshal(plain, &s); err != nil {
		return sealed{}, fmt.Errorf("secret %s: unreadable content", path)
	}
	return s, nil
}

// lock takes the writers' lock within ctx. The kernel frees it when a process dies.
func (d *Dir) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.root, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("secret store: %w: %w", ErrUnavailable, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("secret store: lock: %w: %w", ErrUnavailable, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("secret store: lock: %w: %w", ErrUnavailable, ctx.Err())
		case <-time.After(time.Millisecond + mathrand.N(lockRetry)):
		}
	}
}

// replace writes a whole file so that it is there, and durable, or not at all.
// Called under the lock, so one temporary name serves, and what a killed
// writer left under it is overwritten.
func (d *Dir) replace(file string, data []byte) error {
	if err := d.mkdir(filepath.Dir(file)); err != nil {
		return err
	}
	temp := filepath.Join(d.root, tempFile)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// mkdir makes dir below the root, each level durable.
func (d *Dir) mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if dir != d.root {
		if err := d.mkdir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
