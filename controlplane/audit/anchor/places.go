package anchor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// Shard keeps checkpoints in a shard's maintenance database.
func Shard(fleet *shard.Fleet, id shardmap.ShardID) Place { return onShard{fleet, id} }

type onShard struct {
	fleet *shard.Fleet
	id    shardmap.ShardID
}

func (s onShard) Name() string { return "shard/" + string(s.id) }

func (s onShard) Keep(ctx context.Context, size int64, note string) error {
	return s.fleet.KeepCheckpoint(ctx, s.id, size, note)
}

// errShard is all that those who verify learn of why.
var errShard = errors.New("its Postgres does not answer")

// shardPage is how many checkpoints are read from a shard at a time.
const shardPage = 500

func (s onShard) Newest(ctx context.Context) ([]proof.Anchor, error) {
	notes, err := s.fleet.NewestCheckpoints(ctx, s.id)
	if err != nil {
		return nil, errShard
	}
	return newestOf(notes), nil
}

func (s onShard) Held(ctx context.Context, size int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var last shard.Checkpoint
		for {
			page, err := s.fleet.Checkpoints(ctx, s.id, last, size, shardPage)
			if err != nil {
				yield("", errShard)
				return
			}
			for _, last = range page {
				if !yield(last.Note, nil) {
					return
				}
			}
			if len(page) < shardPage {
				return
			}
		}
	}
}

// Directory keeps checkpoints as files of a directory: a mounted bucket whose
// objects are locked, say, or a disk of another machine. Files are made and never touched again.
func Directory(path string) Place { return directory(path) }

type directory string

const (
	checkpointSuffix = ".checkpoint"
	maxCheckpoint    = 64 << 10 // bytes
	sizeDigits       = 20       // a file's name begins with
)

func (d directory) Name() string { return "directory" }

func (d directory) Keep(_ context.Context, size int64, note string) (err error) {
	sum := sha256.Sum256([]byte(note))
	name := filepath.Join(string(d), fmt.Sprintf("%0*d-%x%s", sizeDigits, size, sum[:4], checkpointSuffix))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // checkpoints are public
	if errors.Is(err, fs.ErrExist) {
		if kept, err := os.ReadFile(name); err != nil || string(kept) == note {
			return err
		}
		return fmt.Errorf("%s is not what it should be; move it away and look into it", name) // cut off by a crash, or changed
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(note)
	return errors.Join(err, f.Sync(), f.Close())
}

func (d directory) Newest(context.Context) ([]proof.Anchor, error) {
	files, err := noteFiles(string(d))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	var notes []string
	for _, f := range slices.Backward(files) {
		if f.size != files[len(files)-1].size {
			break
		}
		n, err := readNote(f.path)
		if err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return newestOf(notes), nil
}

func (d directory) Held(_ context.Context, size int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for note, err := range Notes(string(d)) {
			if c, bad := proof.Peek([]byte(note)); err == nil && bad == nil && c.Size > size {
				continue
			}
			if !yield(note, err) || err != nil {
				return
			}
		}
	}
}

// Notes reads the signed checkpoints of a file, or of the files of a directory
// whose names end in ".checkpoint", one after the other in the order of their
// sizes. An error ends it.
func Notes(path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		files, err := noteFiles(path)
		if err != nil {
			yield("", err)
			return
		}
		for _, f := range files {
			note, err := readNote(f.path)
			if !yield(note, err) || err != nil {
				return
			}
		}
	}
}

// noteFile is a file with a checkpoint of that size.
type noteFile struct {
	size int64
	path string
}

// noteFiles are the files of path in the order of their sizes. Those that a
// [Directory] wrote are not read for that: the size is in front of their name.
func noteFiles(path string) ([]noteFile, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []noteFile{{path: path}}, err
	}
	paths, err := filepath.Glob(filepath.Join(path, "*"+checkpointSuffix))
	if err != nil {
		return nil, err
	}
	files := make([]noteFile, len(paths))
	for i, p := range paths {
		files[i].path = p
		name := filepath.Base(p)
		if files[i].size, err = strconv.ParseInt(name[:min(len(name), sizeDigits)], 10, 64); err == nil && len(name) > sizeDigits {
			continue
		}
		note, err := readNote(p)
		if err != nil {
			return nil, err
		}
		c, err := proof.Peek([]byte(note))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		files[i].size = c.Size
	}
	slices.SortStableFunc(files, func(a, b noteFile) int { return cmp.Compare(a.size, b.size) })
	return files, nil
}

func readNote(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if info.Size() > maxCheckpoint {
		return "", fmt.Errorf("%s: too large for a checkpoint", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(text), "\n\n") {
		return "", fmt.Errorf("%s: %w", file, proof.ErrMalformed)
	}
	return string(text), nil
}
