package cli

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/pgserver"
)

// accessFlags ask for a temporary login.
type accessFlags struct {
	as     string
	ttl    time.Duration
	reason string
}

func (a *accessFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.as, "as", "owner", "work as owner, rw or ro")
	cmd.Flags().DurationVar(&a.ttl, "ttl", time.Hour, "how long the login can connect")
	cmd.Flags().StringVar(&a.reason, "reason", "", "why; it goes into the audit log")
	completeFlag(cmd, "as", cobra.FixedCompletions([]string{"owner", "rw", "ro"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *accessFlags) grant(cmd *cobra.Command, id string) (api.Access, error) {
	if err := checkTenant(cmd, id); err != nil {
		return api.Access{}, err
	}
	if a.ttl < time.Second || a.ttl > 24*time.Hour {
		return api.Access{}, &usageError{cmd.CommandPath(), fmt.Errorf("--ttl %s: want 1s to 24h", a.ttl)}
	}
	if a.as != "owner" && a.as != "rw" && a.as != "ro" {
		return api.Access{}, &usageError{cmd.CommandPath(), fmt.Errorf("--as %q: want owner, rw or ro", a.as)}
	}
	c, err := connect(cmd)
	if err != nil {
		return api.Access{}, err
	}
	return c.GrantAccess(cmd.Context(), id, api.GrantAccess{As: a.as, TTLSeconds: int(a.ttl / time.Second)}, a.reason)
}

func tenantPsqlCommand() *cobra.Command {
	var access accessFlags
	cmd := &cobra.Command{
		Use:   "psql ID [-- psql's arguments]",
		Short: "Open psql on a tenant's database, as its owner",
		Long: `Open psql on a tenant's database with a temporary login, as its owner (or --as rw, ro).
The login reaches psql by a private password file, never by its command line.
The exit status is psql's own.`,
		Example:           "  tenant-ops tenant psql acme\n  tenant-ops tenant psql acme -- -f dump.sql\n  tenant-ops tenant psql acme --as ro -- -c 'TABLE projects'",
		Args:              tenantThenArgs,
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			psql, err := findPsql()
			if err != nil {
				return err
			}
			login, err := access.grant(cmd, args[0])
			if err != nil {
				return err
			}
			return runPsql(cmd, psql, login, args[1:])
		},
	}
	access.flags(cmd)
	return cmd
}

// tenantThenArgs wants a tenant's ID, and psql's arguments behind a "--" only.
func tenantThenArgs(cmd *cobra.Command, args []string) error {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) == 0 || dash == 0:
		return errors.New("the tenant's ID is missing")
	case dash < 0 && len(args) > 1:
		return errors.New("psql's own arguments go behind a \"--\"")
	case dash > 1:
		return errors.New("one tenant only")
	}
	return nil
}

func findPsql() (string, error) {
	if path, err := exec.LookPath("psql"); err == nil {
		return path, nil
	}
	path, err := pgserver.Program("psql")
	if err != nil {
		return "", &statusError{exitFailed, "install PostgreSQL's client programs, or use `tenant-ops tenant dsn` with another client", fmt.Errorf("psql is not installed: %w", err)}
	}
	return path, nil
}

// runPsql runs psql to its end. Ctrl-C is psql's own affair meanwhile.
func runPsql(cmd *cobra.Command, path string, login api.Access, args []string) (err error) {
	passfile, err := writePassfile(login)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(passfile)) }()
	psql := exec.Command(path, args...) //nolint:gosec,noctx // psql, with the operator's own arguments; it ends itself, by the signals below
	// Whoever says otherwise in the environment is heard.
	psql.Env = append(psqlTLS(cmd), psqlEnv(os.Environ(), login, passfile)...)
	psql.Stdin, psql.Stdout, psql.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := psql.Start(); err != nil {
		return fmt.Errorf("psql: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGTERM { // an interrupt from the terminal reaches psql by itself
					_ = psql.Process.Signal(s)
				}
			case <-ended:
				return
			}
		}
	}()
	err = psql.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &silentError{exit.ExitCode()}
	}
	if err != nil {
		return fmt.Errorf("psql: %w", err)
	}
	return nil
}

// writePassfile keeps the password where libpq reads it and nobody else can.
func writePassfile(login api.Access) (string, error) {
	f, err := os.CreateTemp("", "tenant-ops-*.pgpass") // mode 0600
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	_, err = fmt.Fprintf(f, "*:*:%s:%s:%s\n", escape.Replace(login.Database), escape.Replace(login.User), escape.Replace(login.Password))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("password file: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// psqlEnv is the environment without any PG variable that could send psql elsewhere, and with ours.
func psqlEnv(environ []string, login api.Access, passfile string) []string {
	keep := map[string]bool{"PGCLIENTENCODING": true, "PGTZ": true, "PGDATESTYLE": true, "PGSSLMODE": true, "PGSSLROOTCERT": true}
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "PG") || keep[name] {
			env = append(env, kv)
		}
	}
	return append(env, "PGHOST="+login.Postgres.Host, "PGPORT="+strconv.Itoa(int(login.Postgres.Port)),
		"PGDATABASE="+login.Database, "PGUSER="+login.User, "PGPASSFILE="+passfile, "PGAPPNAME=tenant-ops", "PGCONNECT_TIMEOUT=10")
}

func tenantDSNCommand() *cobra.Command {
	var access accessFlags
	var pooled bool
	cmd := &cobra.Command{
		Use:   "dsn ID",
		Short: "Print a temporary connection URL of a tenant's database",
		Long: `Print a connection URL with a temporary login, for any Postgres client. It holds a
password: it can be used until it expires by whoever sees it.

The URL is that of the Postgres server itself. With --pooled it is that of the
shard's PgBouncer, whose clients follow a move, but where a session lasts for one
transaction only: no SET, LISTEN, temporary tables or prepared statements across transactions.`,
		Example:           "  psql \"$(tenant-ops tenant dsn acme)\"\n  pg_dump \"$(tenant-ops tenant dsn acme)\" > acme.sql",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			login, err := access.grant(cmd, args[0])
			if err != nil {
				return err
			}
			dsn := dsnOf(login, pooled, libpqTLS(cmd))
			if f := outputFormat(cmd); f == asJSON || f == asYAML {
				return printDocument(cmd.OutOrStdout(), f, map[string]any{"dsn": dsn, "tenant": login.Tenant, "as": login.As, "expires_at": login.ExpiresAt})
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), dsn); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "works as %s until %s\n", login.As, login.ExpiresAt.Local().Format(time.DateTime))
			return nil
		},
	}
	access.flags(cmd)
	cmd.Flags().BoolVar(&pooled, "pooled", false, "through the shard's PgBouncer")
	return cmd
}

// libpqTLS is how libpq reaches the databases of a development fleet with TLS;
// of others we know nothing: sslmode=verify-full is for whoever connects to say.
func libpqTLS(cmd *cobra.Command) url.Values {
	info, err := dev.Read(fleetDir(cmd))
	if err != nil || !info.Secure {
		return nil
	}
	return url.Values{"sslmode": {"verify-full"}, "sslrootcert": {info.CAFile}, "sslcert": {info.CertFile}, "sslkey": {info.KeyFile}}
}

// psqlTLS is libpqTLS as variables.
func psqlTLS(cmd *cobra.Command) (env []string) {
	for name, values := range libpqTLS(cmd) {
		env = append(env, "PG"+strings.ToUpper(name)+"="+values[0])
	}
	return env
}

func dsnOf(login api.Access, pooled bool, query url.Values) string {
	at := login.Postgres
	if pooled {
		at = login.Bouncer
	}
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(login.User, login.Password), Path: "/" + login.Database}
	if strings.HasPrefix(at.Host, "/") { // a unix socket's directory is no host of a URL
		query = url.Values{"host": {at.Host}, "port": {strconv.Itoa(int(at.Port))}}
	} else {
		u.Host = address(at)
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // to libpq a plus is a plus
	return u.String()
}
