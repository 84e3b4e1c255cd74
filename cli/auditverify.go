package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// Databases that are read without a control plane. A DSN may hold a password, so it is no flag.
const (
	envAuditDSN   = "TENANT_OPS_AUDIT_DSN"
	envCatalogDSN = "TENANT_OPS_CATALOG_DSN"
)

// Exit statuses of audit verify.
const (
	exitTampered   = 1
	exitIncomplete = 2
)

func auditExportCommand() *cobra.Command {
	var file string
	var database bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the whole audit log, and what its witnesses say of it, as lines of JSON",
		Long: `Write the whole audit log as one JSON object a line: keys, checkpoints, what the
anchors hold, every record, and an end. ` + "`audit verify --file`" + ` checks it, now or in
ten years, with nothing but the verifier keys.`,
		Example: "  tenant-ops audit export --file audit-2026.jsonl",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			lines, done, err := auditLines(cmd, "", database)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			out := cmd.OutOrStdout()
			if file != "" {
				f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				out = f
			}
			ended := false
			err = proof.Write(out, func(yield func(proof.Line, error) bool) {
				for l, err := range lines {
					if ended = ended || l.End != nil; !yield(l, err) {
						return
					}
				}
			})
			if err == nil && !ended {
				err = errors.New("the export was cut off; try again")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "a new file to write to, instead of the standard output")
	databaseFlag(cmd, &database)
	return cmd
}

func databaseFlag(cmd *cobra.Command, database *bool) {
	cmd.Flags().BoolVar(database, "database", false, "read the audit database at $"+envAuditDSN+" (and the catalog at $"+envCatalogDSN+", if set), without any control plane")
}

func auditVerifyCommand() *cobra.Command {
	var file, keys string
	var anchors []string
	var database bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no record of the audit log was changed, removed, moved or added",
		Long: `Check that no record of the audit log was changed, removed, moved or added: every
record against the Merkle tree, the tree against every signed checkpoint that the
log, the shards, the stream and the anchor directory hold, the signatures against
the verifier keys, and the number of records against what the catalog has written.

Everything is checked here. Without --file the control plane gives the log out;
who does not want to believe it reads the database itself (--database), or an
export (--file), with keys and checkpoints kept elsewhere (--keys, --anchor).

Exit status:
  0  sound
  1  tampered: something disagrees
  2  incomplete: nothing disagrees, and something could not be checked`,
		Example: "  tenant-ops audit verify\n  tenant-ops audit verify --keys audit.keys --anchor /mnt/locked\n  tenant-ops audit verify --file audit-2026.jsonl --keys audit.keys",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if (file != "" || database) && keys == "" {
				return &usageError{cmd.CommandPath(), errors.New("--keys: which keys are believed? save those of `tenant-ops audit checkpoint --published-keys` at a good time")}
			}
			believed, err := auditKeysOf(cmd, keys)
			if err != nil {
				return err
			}
			lines, done, err := auditLines(cmd, file, database)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			all := []iter.Seq2[proof.Line, error]{lines}
			for _, path := range anchors {
				if _, err := os.Stat(path); err != nil {
					return fmt.Errorf("--anchor: %w", err)
				}
				all = append(all, anchor.Lines(path, anchor.Notes(path)))
			}
			r := proof.Verify(proof.Merge(all...), believed)
			if err := printVerification(cmd, r); err != nil {
				return err
			}
			switch r.Verdict {
			case proof.Sound:
				return nil
			case proof.Tampered:
				return &silentError{exitTampered}
			default:
				return &silentError{exitIncomplete}
			}
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "check this export; - for the standard input")
	cmd.Flags().StringVar(&keys, "keys", "", "file with the verifier keys to believe; without it those that the control plane publishes")
	cmd.Flags().StringArrayVar(&anchors, "anchor", nil, "a checkpoint kept elsewhere, or a directory of *.checkpoint files, to compare with, too; may be given again")
	databaseFlag(cmd, &database)
	return cmd
}

// auditLines opens an export: a file, the database's own, or the control plane's.
func auditLines(cmd *cobra.Command, file string, database bool) (lines iter.Seq2[proof.Line, error], done func() error, err error) {
	nothing := func() error { return nil }
	switch {
	case database:
		return databaseLines(cmd.Context())
	case file == "-":
		return proof.Read(cmd.InOrStdin()), nothing, nil
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, nil, err
		}
		return proof.Read(f), f.Close, nil
	}
	c, err := connect(cmd)
	if err != nil {
		return nil, nil, err
	}
	body, err := c.ExportAudit(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	return proof.Read(body), body.Close, nil
}

func databaseLines(ctx context.Context) (iter.Seq2[proof.Line, error], func() error, error) {
	dsn := os.Getenv(envAuditDSN)
	if dsn == "" {
		return nil, nil, &statusError{exitUsage, "set " + envAuditDSN + " to its connection string; a login that can read is enough", errors.New("--database: which audit database?")}
	}
	log, err := audit.Open(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	done := func() error { log.Close(); return nil }
	var sources audit.Witness
	if dsn := os.Getenv(envCatalogDSN); dsn != "" {
		store, err := catalog.Open(ctx, dsn)
		if err != nil {
			log.Close()
			return nil, nil, err
		}
		sources, done = audit.SourceOf(store), func() error { store.Close(); log.Close(); return nil }
	}
	return log.Export(ctx, sources, nil), done, nil
}

// auditKeysOf is auditKeys for a command that has no client yet.
func auditKeysOf(cmd *cobra.Command, file string) (proof.Keys, error) {
	if file != "" {
		return auditKeys(cmd, nil, file)
	}
	c, err := connect(cmd)
	if err != nil {
		return nil, err
	}
	return auditKeys(cmd, c, "")
}

// auditKeys are the keys that are believed: the file's, or those that are published.
func auditKeys(cmd *cobra.Command, c *client.Client, file string) (proof.Keys, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		keys, err := proof.ParseKeys(string(text))
		if err != nil {
			return nil, &statusError{exitUsage, "save the keys of `tenant-ops audit checkpoint --published-keys` there", fmt.Errorf("%s: %w", file, err)}
		}
		return keys, nil
	}
	text, err := c.AuditKeys(cmd.Context())
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, nil // nothing was signed yet, and the check will say so
	}
	if outputFormat(cmd) == asTable {
		fmt.Fprintln(cmd.ErrOrStderr(), "keys: those that the control plane publishes; keep them and give them as --keys not to depend on it")
	}
	return proof.ParseKeys(string(text))
}

func printVerification(cmd *cobra.Command, r proof.Report) error {
	out := cmd.OutOrStdout()
	if f := outputFormat(cmd); f == asJSON || f == asYAML {
		return printDocument(out, f, r)
	}
	sayReport(out, r)
	return nil
}

func sayReport(out io.Writer, r proof.Report) {
	say := func(format string, args ...any) { fmt.Fprintln(out, clean(fmt.Sprintf(format, args...))) }
	say("%s: %d records of %s, root %s", r.Verdict, r.Records, r.Origin, r.Root)
	say("  %d of them signed; compared with %d checkpoints kept beside the log", r.Signed, r.Checkpoints)
	for _, name := range slices.Sorted(maps.Keys(r.Anchored)) {
		say("  anchor %s: %d compared", name, r.Anchored[name])
	}
	for _, p := range r.Problems {
		say("  TAMPERED  %s: %s", p.Kind, p.Text)
	}
	for _, m := range r.Missing {
		say("  not checked: %s", m)
	}
}
