package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
)

func apikeyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "apikey", Aliases: []string{"apikeys"}, Short: "Make and revoke API keys of tenants", GroupID: "operate"}
	cmd.AddCommand(apikeyCreateCommand(), apikeyListCommand(), apikeyRevokeCommand())
	return cmd
}

var keyColumns = []column[api.Key]{
	{"id", func(k api.Key) any { return k.ID }},
	{"role", func(k api.Key) any { return k.Role }},
	{"permissions", func(k api.Key) any { return strings.Join(k.Permissions, ",") }},
	{"state", func(k api.Key) any { return k.State }},
	{"description", func(k api.Key) any { return k.Description }},
	{"by", func(k api.Key) any { return k.CreatedBy }},
	{"created", func(k api.Key) any { return k.CreatedAt }},
	{"expires", func(k api.Key) any { return k.ExpiresAt }},
	{"revoked", func(k api.Key) any { return k.RevokedAt }},
}

func apikeyCreateCommand() *cobra.Command {
	var in api.CreateKey
	var ttl time.Duration
	var reason, out string
	cmd := &cobra.Command{
		Use:   "create TENANT --role ROLE",
		Short: "Make an API key and print it, this once",
		Long: `Make an API key of a tenant. Its text is printed alone on the standard output,
or written to a file of mode 0600 that is not there yet (--out). It is kept
nowhere: who loses it makes another. With -o json it is the member "key".`,
		Example:           "  tenant-ops apikey create acme --role editor --ttl 2160h --out acme.key\n  KEY=$(tenant-ops apikey create acme --role owner --permission sql)",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(access.CheckRole(in.Role), access.CheckPermissions(in.Permissions)); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if ttl < 0 {
				return &usageError{cmd.CommandPath(), errors.New("--ttl is negative")}
			}
			if ttl > 0 {
				at := time.Now().Add(ttl).UTC().Truncate(time.Second)
				in.ExpiresAt = &at
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			file, err := keyFile(cmd, out)
			if err != nil {
				return err
			}
			k, err := c.CreateKey(cmd.Context(), args[0], in, reason)
			if err != nil {
				file.discard()
				return err
			}
			if err := file.write(k.Text); err != nil {
				return fmt.Errorf("key %s was made, but its text could not be written (revoke it: tenant-ops apikey revoke %s %s): %w", k.ID, args[0], k.ID, err)
			}
			if err := printKey(cmd, k, out); err != nil {
				return err
			}
			next(cmd, "apikey list "+args[0], "apikey revoke "+args[0]+" "+k.ID)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Role, "role", "", "viewer, editor, owner, or a role of the tenant's own")
	f.StringSliceVar(&in.Permissions, "permission", nil, "what it allows beyond REST: sql")
	f.StringVar(&in.Description, "description", "", "what it is for")
	f.DurationVar(&ttl, "ttl", 0, "how long it is valid; 0: until it is revoked")
	f.StringVar(&out, "out", "", "write the key to this new file instead of printing it")
	f.StringVar(&reason, "reason", "", "why; it goes into the audit log")
	mustGive(cmd, "role")
	completeFlag(cmd, "role", cobra.FixedCompletions([]string{access.RoleViewer, access.RoleEditor, access.RoleOwner}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// printKey prints the key's text unless a file has it.
func printKey(cmd *cobra.Command, k api.NewKey, out string) error {
	if out != "" {
		return printOne(cmd, k.Key, keyColumns)
	}
	if f := outputFormat(cmd); f == asJSON || f == asYAML {
		return printDocument(cmd.OutOrStdout(), f, k)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), k.Text)
	return err
}

// secretFile is a file that is made before there is a secret to put into it.
type secretFile struct{ *os.File }

func keyFile(cmd *cobra.Command, path string) (secretFile, error) {
	if path == "" {
		return secretFile{}, nil
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return secretFile{}, &usageError{cmd.CommandPath(), fmt.Errorf("--out: %w", err)}
	}
	return secretFile{f}, nil
}

func (f secretFile) write(text string) error {
	if f.File == nil {
		return nil
	}
	_, err := f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}

func (f secretFile) discard() {
	if f.File != nil {
		_, _ = f.Close(), os.Remove(f.Name()) // empty, and of no use
	}
}

func apikeyListCommand() *cobra.Command {
	return aboutTenant("list TENANT", "List a tenant's API keys, never their texts", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		return printList(cmd, c.Keys(cmd.Context(), tenant), 0, keyColumns)
	})
}

var keyIDPattern = regexp.MustCompile(`^[0-9a-f]{12}$`)

func apikeyRevokeCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke TENANT KEY-ID",
		Short: "Have an API key refused from now on, for good",
		Args:  twoArgs("tenant's ID", "key's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !keyIDPattern.MatchString(args[1]) {
				return &usageError{cmd.CommandPath(), errors.New("that is not the ID of a key: want 12 hex digits, as `apikey list` shows")}
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			if err := confirm(cmd, yes, "Whoever uses key "+args[1]+" of tenant "+args[0]+" is refused from now on.", args[1], "the key's ID"); err != nil {
				return err
			}
			k, err := c.RevokeKey(cmd.Context(), args[0], args[1], ch.Change)
			if err != nil {
				return err
			}
			return printOne(cmd, k, keyColumns)
		},
	}
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}
