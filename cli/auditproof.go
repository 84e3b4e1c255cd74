package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// errProof: what the control plane gave out is not what was signed.
func errProof(err error) error {
	return &statusError{exitTampered, "run `tenant-ops audit verify`, and keep what you have", err}
}

// proved checks each record's proof. A record that is not signed yet has none, and comes as it is.
func proved(pages iter.Seq2[api.TenantAudit, error], keys proof.Keys) iter.Seq2[api.AuditEntry, error] {
	return func(yield func(api.AuditEntry, error) bool) {
		for page, err := range pages {
			var head proof.Checkpoint
			if err == nil && page.Checkpoint != "" {
				if head, err = keys.Open([]byte(page.Checkpoint)); err != nil {
					err = errProof(err)
				}
			}
			if err != nil {
				yield(api.AuditEntry{}, err)
				return
			}
			for _, e := range page.Items {
				if err := check(head, e); err != nil {
					yield(e, errProof(err))
					return
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func check(head proof.Checkpoint, e api.AuditEntry) error {
	if e.Position > head.Size {
		if e.Leaf == "" || e.Proof != nil { // it would be shown as if its proof held
			return fmt.Errorf("record %d is of no checkpoint that was given: %w", e.Position, proof.ErrProof)
		}
		return agrees(e)
	}
	path, err := hashes(e.Proof)
	if err != nil {
		return err
	}
	if err := proof.Included(head, e.Position, e.Leaf, path); err != nil {
		return err
	}
	return agrees(e)
}

// agrees makes sure that what is shown of a record is what its text says.
func agrees(e api.AuditEntry) error {
	var leaf struct {
		Position int64
		Record   catalog.AuditRecord
	}
	if err := json.Unmarshal([]byte(e.Leaf), &leaf); err != nil {
		return fmt.Errorf("record %d can't be read: %w", e.Position, err)
	}
	r := leaf.Record
	if leaf.Position != e.Position || r.Actor.Name != e.Actor || r.Actor.Role != e.Role || r.Actor.Reason != e.Reason || r.Action != e.Action ||
		r.Object != e.Object || r.Tenant != e.Tenant || r.Outcome != e.Outcome || !r.Time.Equal(e.Time) ||
		e.Hash != recordHash(e.Leaf) || r.Actor.RequestID != e.RequestID || r.Actor.Address != e.Address || r.TraceID != e.TraceID || !sameDocument(r.Details, e.Details) {
		return fmt.Errorf("record %d is shown other than it is: %w", e.Position, proof.ErrProof)
	}
	return nil
}

// recordHash is a record's leaf as it is shown.
func recordHash(text string) string {
	h := tlog.RecordHash([]byte(text))
	return hex.EncodeToString(h[:])
}

// sameDocument compares JSON by what it says; none is as good as null.
func sameDocument(a, b json.RawMessage) bool {
	var texts [2][]byte
	for i, raw := range []json.RawMessage{a, b} {
		if len(raw) == 0 {
			raw = json.RawMessage("null")
		}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber() // no digit is lost
		var v any
		if d.Decode(&v) != nil {
			return false
		}
		texts[i], _ = json.Marshal(v) // what was decoded can be encoded
	}
	return bytes.Equal(texts[0], texts[1])
}

// hashes reads a proof's.
func hashes(texts []string) ([]tlog.Hash, error) {
	path := make([]tlog.Hash, len(texts))
	for i, s := range texts {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b) != tlog.HashSize {
			return nil, fmt.Errorf("%q is no hash: %w", s, proof.ErrProof)
		}
		path[i] = tlog.Hash(b)
	}
	return path, nil
}

func proofOf(e api.AuditEntry) any {
	if e.Leaf != "" && e.Proof == nil {
		return "not signed yet"
	}
	return "holds"
}

func auditCheckpointCommand() *cobra.Command {
	var ch change
	var sign, published bool
	var since, keys string
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Show the newest signed checkpoint, and that it has all that an older one had",
		Long: `Show the newest signed checkpoint of the audit log. Keep it: whoever rewrites the
log later can't rewrite what you have.

With --since the log is held to a checkpoint that was kept: the proof that
everything in it is still there is checked here.`,
		Example: "  tenant-ops audit checkpoint > 2026-01.checkpoint\n  tenant-ops audit checkpoint --since 2026-01.checkpoint --keys audit.keys\n  tenant-ops audit checkpoint --published-keys > audit.keys",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			if published {
				text, err := c.AuditKeys(cmd.Context())
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			}
			if sign {
				done, err := c.SignAudit(cmd.Context(), ch.Change)
				if err != nil {
					return err
				}
				if !done.Anchored {
					fmt.Fprintln(cmd.ErrOrStderr(), "some anchors do not have it yet; the control plane's log says which")
				}
			}
			signed, err := c.AuditCheckpoint(cmd.Context())
			if err != nil {
				return err
			}
			believed, err := auditKeys(cmd, c, keys)
			if err != nil {
				return err
			}
			head, err := believed.Open(signed)
			if err != nil {
				return errProof(err)
			}
			if since != "" {
				if err := extends(cmd, c, believed, since, head); err != nil {
					return err
				}
			}
			_, err = cmd.OutOrStdout().Write(signed)
			return err
		},
	}
	cmd.Flags().BoolVar(&sign, "sign", false, "have the log signed first, and the checkpoint carried to every anchor")
	cmd.Flags().BoolVar(&published, "published-keys", false, "show the verifier keys that the control plane publishes instead")
	cmd.Flags().StringVar(&since, "since", "", "file with an older checkpoint, all of which must be in the log still")
	cmd.Flags().StringVar(&keys, "keys", "", "file with the verifier keys to believe; without it those that the control plane publishes")
	ch.flags(cmd)
	return cmd
}

// extends holds the log to a checkpoint that was kept.
func extends(cmd *cobra.Command, c *client.Client, keys proof.Keys, file string, head proof.Checkpoint) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	older, err := keys.Open(text)
	if err != nil {
		return errProof(fmt.Errorf("%s: %w", file, err))
	}
	var path []tlog.Hash
	if older.Size < head.Size && older.Size > 0 {
		steps, err := c.AuditConsistency(cmd.Context(), older.Size, head.Size)
		if err != nil {
			return err
		}
		if path, err = hashes(steps.Proof); err != nil {
			return errProof(err)
		}
	}
	if err := proof.Extends(older, head, path); err != nil {
		return errProof(fmt.Errorf("%s, of %d records, is not in the log any more: %w", file, older.Size, err))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "all %d records of %s are in the log still\n", older.Size, file)
	return nil
}
