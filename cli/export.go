package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/internal/envelope"
)

var copyColumns = []column[api.Copy]{
	{"id", func(c api.Copy) any { return c.ID }},
	{"state", func(c api.Copy) any {
		if c.WhyGone != "" {
			return c.State + ": " + c.WhyGone
		}
		return c.State
	}},
	{"where", func(c api.Copy) any { return whereIs(c) }},
	{"bytes", func(c api.Copy) any { return c.Bytes }},
	{"taken", func(c api.Copy) any { return c.TakenAt }},
	{"expires", func(c api.Copy) any { return c.ExpiresAt }},
	{"readable", func(c api.Copy) any { return c.Readable }},
}

func whereIs(c api.Copy) string {
	switch held := c.State == "held"; {
	case held && c.HandedOut > 0:
		return "here, and handed out"
	case held:
		return "here"
	case c.HandedOut > 0:
		return "handed out"
	}
	return "nowhere"
}

func tenantExportCommand() *cobra.Command {
	var in api.ExportTenant
	var ch change
	var out string
	var keep time.Duration
	cmd := &cobra.Command{
		Use:   "export ID",
		Short: "Make a sealed copy of a tenant's database, while it is served",
		Long: `Make a sealed copy of a tenant's database, of one moment, while it is served.
The file is encrypted under the tenant's own key: without the fleet's keys it
gives nothing away, and once the tenant is erased nobody can read it.

The copy is held by the control plane until it expires; with --out its file is
downloaded too. tenant import makes a new tenant of it.`,
		Example:           "  tenant-ops tenant export acme --out acme.sealed\n  tenant-ops tenant export acme --keep 720h --reason \"before the migration\"",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 0 {
				return &usageError{cmd.CommandPath(), errors.New("--keep is negative")}
			}
			in.KeepSeconds = int64(keep / time.Second)
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			if out != "" { // before anything is made
				if _, err := os.Lstat(out); err == nil {
					return &statusError{exitRefused, "name another file, or move it away", fmt.Errorf("%s is there already", out)}
				}
			}
			op, err := c.ExportTenant(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			if out == "" {
				return watchOrLeave(cmd, c, op, ch, "exporting "+args[0], "tenant copies "+args[0])
			}
			return exportTo(cmd, c, op, ch, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "also download the sealed file to here")
	f.DurationVar(&keep, "keep", 0, "how long the control plane holds it (default as it is configured)")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal, and with --out)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	return cmd
}

// exportTo waits for the copy and downloads it.
func exportTo(cmd *cobra.Command, c *client.Client, op api.Operation, ch change, out string) error {
	op, err := await(cmd, c, op, ch.timeout)
	if err != nil {
		return err
	}
	var rec copies.ExportReceipt
	if err := json.Unmarshal(op.Receipt, &rec); err != nil {
		return fmt.Errorf("receipt of operation %s: %w", op.ID, err)
	}
	if err := download(cmd, c, string(rec.Tenant), rec.Copy, rec.SHA256, out); err != nil {
		return err
	}
	held, err := c.Copy(cmd.Context(), string(rec.Tenant), rec.Copy)
	if err != nil {
		return err
	}
	if err := printOne(cmd, held, copyColumns); err != nil {
		return err
	}
	next(cmd, "tenant import "+out+" --as NEW_ID")
	return nil
}

// download writes a copy's file, which is there as a whole or not at all.
func download(cmd *cobra.Command, c *client.Client, tenant, id, sum, out string) (err error) {
	f, err := os.OpenFile(out+".partial", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	h := sha256.New()
	if err := c.DownloadCopy(cmd.Context(), tenant, id, io.MultiWriter(f, h)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("what was downloaded has the SHA-256 %s, and the copy %s", got, sum)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}

func tenantCopiesCommand() *cobra.Command {
	var surviving bool
	cmd := aboutTenant("copies ID", "List a tenant's sealed copies: where they are, and until when", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		return printList(cmd, c.Copies(cmd.Context(), tenant, surviving), 0, copyColumns)
	})
	cmd.Flags().BoolVar(&surviving, "surviving", false, "only those whose file may be somewhere")
	cmd.AddCommand(copyDeleteCommand(), copyDownloadCommand())
	return cmd
}

func copyDeleteCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "delete ID COPY",
		Short: "Take a copy away that the control plane holds; what was downloaded stays where it is",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			gone, err := c.DeleteCopy(cmd.Context(), args[0], args[1], ch.Change)
			if err != nil {
				return err
			}
			return printOne(cmd, gone, copyColumns)
		},
	}
	ch.flags(cmd)
	return cmd
}

func copyDownloadCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "download ID COPY --out FILE",
		Short: "Download the sealed file of a copy that the control plane holds",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			found, err := c.Copy(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := download(cmd, c, args[0], found.ID, found.SHA256, out); err != nil {
				return err
			}
			return printOne(cmd, found, copyColumns)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "where to")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

func tenantImportCommand() *cobra.Command {
	var in api.ImportCopy
	var ch change
	cmd := &cobra.Command{
		Use:   "import FILE --as ID",
		Short: "Make a new tenant of a sealed copy",
		Long: `Make a new tenant of a sealed copy that tenant export made. The file is sent to
the control plane unless that holds it still, and all of it is verified before
anything is made. A copy of an erased tenant is refused: its key is destroyed.`,
		Example: "  tenant-ops tenant import acme.sealed --as acme2\n  tenant-ops tenant import acme.sealed --as acme2 --to s2 --name \"Acme, as of May\"",
		Args:    oneArg("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkTenant, in.ID)
			if err != nil {
				return err
			}
			if in.To != "" {
				if err := checkShard(cmd, in.To); err != nil {
					return err
				}
			}
			held, err := provide(cmd, c, args[0], ch)
			if err != nil {
				return err
			}
			op, err := c.ImportCopy(cmd.Context(), string(held.Tenant), held.ID, in, ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, fmt.Sprintf("making %s of a copy of %s", in.ID, held.Tenant), "tenant show "+in.ID, "apikey create "+in.ID)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.ID, "as", "", "the new tenant's ID")
	f.StringVar(&in.To, "to", "", "the shard that it is to live on (default the best that fits)")
	f.StringVar(&in.DisplayName, "name", "", "display name of the new tenant")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	_ = cmd.MarkFlagRequired("as")
	completeFlag(cmd, "to", completeShards)
	return cmd
}

// provide finds the copy at the control plane, or sends it.
func provide(cmd *cobra.Command, c *client.Client, path string, ch change) (held api.Copy, err error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return held, &usageError{cmd.CommandPath(), err}
	}
	defer f.Close() //nolint:errcheck // only read
	sealed, err := envelope.Read(f)
	if err != nil {
		return held, &statusError{exitRefused, "tenant-ops tenant export makes such files", fmt.Errorf("%s: %w", path, err)}
	}
	if err := checkTenant(cmd, sealed.Header.Tenant); err != nil {
		return held, err
	}
	info, err := f.Stat()
	if err != nil {
		return held, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return held, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return held, err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	for one, err := range c.Copies(cmd.Context(), sealed.Header.Tenant, true) {
		if err != nil {
			return held, err
		}
		if one.State == "held" && one.SHA256 == sum {
			return one, nil
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return held, err
	}
	if outputFormat(cmd) == asTable {
		fmt.Fprintf(cmd.OutOrStdout(), "sending %s\n", size(info.Size()))
	}
	return c.UploadCopy(cmd.Context(), sealed.Header.Tenant, io.NopCloser(f), info.Size(), ch.Change)
}
