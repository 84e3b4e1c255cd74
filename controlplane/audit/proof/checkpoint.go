// Package proof is what the audit log can be held to, and needs no database
// and no control plane: the Merkle tree over its records (RFC 6962), signed
// checkpoints of it (C2SP tlog-checkpoint), the export of a log as lines of
// JSON, and the check of such an export. Whoever has an export and the
// verifier keys can tell by this package alone whether records were changed.
//
// Import law: of this module, proof imports nothing.
package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says which records a log has: how many, and the root of the tree over them.
type Checkpoint struct {
	Origin string // of which log
	Size   int64  // records, from the first on
	Root   tlog.Hash
}

// text is what is signed: three lines, as tlog-checkpoint has them.
func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ErrMalformed: a text is no checkpoint, key, or line of an export.
var ErrMalformed = errors.New("malformed")

// ErrSignature: a checkpoint is signed by none of the keys that are good for its size.
var ErrSignature = errors.New("no good signature")

func parse(text string) (Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 4) // what follows the three lines are extensions
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", ErrMalformed)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	root, rootErr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] || rootErr != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", ErrMalformed)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: tlog.Hash(root)}, nil
}

// Peek reads a signed checkpoint without looking at its signature: for those
// who only keep it. Errors: [ErrMalformed].
func Peek(signed []byte) (Checkpoint, error) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", ErrMalformed)
	}
	return parse(text + "\n")
}

// algorithmEd25519 is how a note's keys begin.
const algorithmEd25519 = 1

// Signer signs the checkpoints of one log.
type Signer struct {
	signer note.Signer
	key    string
}

// NewSigner makes a signer for the log named origin. The name goes before a
// key's in a note, so it has neither spaces nor '+'.
func NewSigner(origin string, key ed25519.PrivateKey) (*Signer, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("audit signing key: not an Ed25519 key")
	}
	verifier, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, fmt.Errorf("audit signing key: %w", err)
	}
	_, hash, _ := strings.Cut(verifier, "+")
	hash, _, _ = strings.Cut(hash, "+")
	seed := base64.StdEncoding.EncodeToString(append([]byte{algorithmEd25519}, key.Seed()...))
	s, err := note.NewSigner("PRIVATE+KEY+" + origin + "+" + hash + "+" + seed)
	if err != nil {
		return nil, errors.New("audit signing key: the log's name cannot be a key's") // err may show the key
	}
	return &Signer{signer: s, key: verifier}, nil
}

// VerifierKey is the public half, as `name+hash+key`.
func (s *Signer) VerifierKey() string { return s.key }

// Sign gives the checkpoint of this log as a signed note. The same checkpoint gives the same bytes.
func (s *Signer) Sign(size int64, root tlog.Hash) ([]byte, error) {
	c := Checkpoint{Origin: s.signer.Name(), Size: size, Root: root}
	return note.Sign(&note.Note{Text: c.text()}, s.signer)
}
