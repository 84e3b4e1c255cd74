package secret

import (
	"context"
	"crypto/cipher"
	cryptorand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	lockFile  = "lock"    // flock: one writer at a time, of all processes
	tempFile  = "writing" // the one file being written, under the lock
	fileMagic = "FHS1"    // XChaCha20-Poly1305, path as associated data
	suffix    = ".sealed"
	lockRetry = 20 * time.Millisecond
	openFor   = 10 * time.Second // bounds the wait for the lock while a store is opened
)

// box is a directory of files sealed under one key, which lies beside them. It
// knows nothing of what is in them. Any number of processes may use one.
type box struct {
	root    string
	keyFile string   // 32 bytes in hex, mode 0600
	others  []string // directories in root that are not of this box
	aead    cipher.AEAD
}

// openBox opens the box in dir. Directory and key are created on first use,
// also when several processes come first at once. It refuses a key that others
// than the owner can read.
func openBox(dir, keyFile string, others ...string) (*box, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("secret store: %w", err)
	}
	b := &box{root: dir, keyFile: keyFile, others: others}
	ctx, cancel := context.WithTimeout(context.Background(), openFor)
	defer cancel()
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	key, err := b.key()
	if err != nil {
		return nil, fmt.Errorf("secret store %s: %w", dir, err)
	}
	if b.aead, err = chacha20poly1305.NewX(key); err != nil {
		return nil, fmt.Errorf("secret store %s: %w", dir, err)
	}
	return b, nil
}

// key reads the box's key, or makes it. Called under the lock.
func (b *box) key() ([]byte, error) {
	path := filepath.Join(b.root, b.keyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.unused(); err != nil {
			return nil, err
		}
		key := make([]byte, chacha20poly1305.KeySize)
		_, _ = cryptorand.Read(key)
		return key, b.replace(path, []byte(hex.EncodeToString(key)+"\n"))
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): chmod 600 it", b.keyFile, info.Mode().Perm())
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%s is not %d bytes in hex", b.keyFile, chacha20poly1305.KeySize)
	}
	return key, nil
}

// unused refuses a directory that has had a key: under a new one, what was
// sealed before would be lost for good, and quietly.
func (b *box) unused() error {
	entries, err := os.ReadDir(b.root)
	if err != nil {
		return err
	}
next:
	for _, e := range entries {
		for _, other := range b.others {
			if e.Name() == other {
				continue next
			}
		}
		if e.IsDir() || strings.HasSuffix(e.Name(), suffix) {
			return fmt.Errorf("%s is missing, and %s was sealed under it: put it back", b.keyFile, e.Name())
		}
	}
	return nil
}

// file is where the content of a checked path is.
func (b *box) file(path string) string {
	return filepath.Join(b.root, filepath.FromSlash(path)) + suffix
}

// open returns what is sealed under the path, or ErrNotFound, ErrUnavailable.
func (b *box) open(path string) ([]byte, error) {
	data, err := os.ReadFile(b.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(b.root, b.keyFile)); err != nil { // the store itself is away
			return nil, fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
		}
		return nil, fmt.Errorf("secret %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	head := len(fileMagic) + chacha20poly1305.NonceSizeX
	if len(data) < head || string(data[:len(fileMagic)]) != fileMagic {
		return nil, fmt.Errorf("secret %s: not a sealed file", path)
	}
	plain, err := b.aead.Open(nil, data[len(fileMagic):head], data[head:], []byte(path))
	if err != nil {
		return nil, fmt.Errorf("secret %s: altered, moved, or sealed under another master key", path)
	}
	return plain, nil
}

// seal writes the content of a path, durable when it returns. Called under the lock.
func (b *box) seal(path string, plain []byte) error {
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = cryptorand.Read(nonce)
	data := append([]byte(fileMagic), nonce...)
	if err := b.replace(b.file(path), b.aead.Seal(data, nonce, plain, []byte(path))); err != nil {
		return fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	return nil
}

// remove removes a path, durable when it returns; one that is not there is no
// error. Called under the lock.
func (b *box) remove(path string) error {
	err := os.Remove(b.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(b.file(path)))
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w: %w", path, ErrUnavailable, err)
	}
	return nil
}

// lock takes the writers' lock within ctx. The kernel frees it when a process dies.
func (b *box) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.root, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
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
func (b *box) replace(file string, data []byte) error {
	if err := b.mkdir(filepath.Dir(file)); err != nil {
		return err
	}
	temp := filepath.Join(b.root, tempFile)
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
func (b *box) mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if dir != b.root {
		if err := b.mkdir(parent); err != nil {
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
