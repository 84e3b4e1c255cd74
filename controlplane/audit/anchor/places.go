package anchor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
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

func (s onShard) Held(ctx context.Context) iter.Seq2[proof.Anchor, error] {
	return func(yield func(proof.Anchor, error) bool) {
		notes, err := s.fleet.Checkpoints(ctx, s.id)
		if err != nil {
			yield(proof.Anchor{}, errors.New("its Postgres does not answer")) // what is behind it is not for everybody who verifies
			return
		}
		each(notes)(yield)
	}
}

func each(notes []string) iter.Seq2[proof.Anchor, error] {
	return func(yield func(proof.Anchor, error) bool) {
		for _, n := range notes {
			if !yield(proof.Anchor{Checkpoint: n}, nil) {
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
)

func (d directory) Name() string { return "directory" }

func (d directory) Keep(_ context.Context, size int64, note string) (err error) {
	sum := sha256.Sum256([]byte(note))
	name := filepath.Join(string(d), fmt.Sprintf("%020d-%x%s", size, sum[:4], checkpointSuffix))
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

func (d directory) Held(context.Context) iter.Seq2[proof.Anchor, error] {
	return func(yield func(proof.Anchor, error) bool) {
		notes, err := ReadNotes(string(d))
		if err != nil {
			yield(proof.Anchor{}, err)
			return
		}
		each(notes)(yield)
	}
}

// ReadNotes reads the signed checkpoints of a file, or of the files of a
// directory whose names end in ".checkpoint".
func ReadNotes(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*"+checkpointSuffix)); err != nil {
			return nil, err
		}
	}
	var notes []string
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		if info.Size() > maxCheckpoint {
			return nil, fmt.Errorf("%s: too large for a checkpoint", f)
		}
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(text), "\n\n") {
			return nil, fmt.Errorf("%s: %w", f, proof.ErrMalformed)
		}
		notes = append(notes, string(text))
	}
	return notes, nil
}
