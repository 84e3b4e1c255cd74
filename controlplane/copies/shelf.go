package copies

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// shelf is the directory of sealed files, which all replicas reach. A file's
// name is its copy's ID and a word of whoever wrote it, so that two who believe
// to be at the same copy never write the same file; the catalog says which holds.
type shelf struct{ dir string }

const (
	suffix  = ".sealed"
	partial = ".partial"
)

var namePattern = regexp.MustCompile(`^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9a-z]+\.sealed(\.partial)?$`)

// ErrNoShelf: this control plane is configured to keep no copies.
var ErrNoShelf = errors.New("this control plane keeps no copies: set copies_dir")

func (s shelf) check() error {
	if s.dir == "" {
		return ErrNoShelf
	}
	return nil
}

// draft is a file being written, counted and hashed on the way.
type draft struct {
	shelf shelf
	name  string
	file  *os.File
	hash  hash.Hash
	bytes int64
}

func (s shelf) begin(id, word string) (*draft, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("copies: %w", err)
	}
	d := &draft{shelf: s, name: id + "." + word + suffix, hash: sha256.New()}
	if !namePattern.MatchString(d.name) {
		return nil, fmt.Errorf("copies: %q is no name of a copy", d.name)
	}
	var err error
	if d.file, err = os.OpenFile(s.path(d.name+partial), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err != nil {
		return nil, fmt.Errorf("copies: %w", err)
	}
	return d, nil
}

func (s shelf) path(name string) string { return filepath.Join(s.dir, name) }

// Write implements io.Writer.
func (d *draft) Write(p []byte) (int, error) {
	n, err := d.file.Write(p)
	_, _ = d.hash.Write(p[:n]) // a hash never fails
	d.bytes += int64(n)
	return n, err
}

// finish makes the file durable under its name.
func (d *draft) finish() error {
	err := d.file.Sync()
	if err := errors.Join(err, d.file.Close()); err != nil {
		return fmt.Errorf("copies: %w", err)
	}
	d.file = nil
	if err := os.Rename(d.shelf.path(d.name+partial), d.shelf.path(d.name)); err != nil {
		return fmt.Errorf("copies: %w", err)
	}
	return d.shelf.sync()
}

// drop gives up a draft that is not finished; after finish it does nothing.
func (d *draft) drop() {
	if d.file != nil {
		_ = d.file.Close()
		_ = os.Remove(d.file.Name()) // else the keeper finds it
	}
}

func (d *draft) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }

func (s shelf) sync() error {
	f, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("copies: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("copies: %w", err)
	}
	return nil
}

// open opens a finished file; write says whether its header is to be changed.
func (s shelf) open(name string, write bool) (*os.File, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("copies: %q is no name of a copy", name)
	}
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(s.path(name), flags, 0)
	if err != nil {
		return nil, fmt.Errorf("copies: %w", err)
	}
	return f, nil
}

// remove takes away every file of a copy. No file is no error.
func (s shelf) remove(id string) error {
	names, err := s.names()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		if strings.HasPrefix(name, id+".") {
			if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, err)
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("copies: %w", errors.Join(failed...))
	}
	if len(names) == 0 {
		return nil
	}
	return s.sync()
}

// names lists the files that are copies, or were to become some.
func (s shelf) names() ([]string, error) {
	if s.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("copies: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && namePattern.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// digest reads a whole file.
func digest(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("copies: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s shelf) removeFile(name string) error {
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copies: %w", err)
	}
	return s.sync()
}
