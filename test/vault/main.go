// Command vault is HashiCorp's Vault, built from its published module with the
// few backends that Freehold uses, for the tests: what serves is Vault's own
// core and HTTP handler, with file storage and a Shamir seal, and nothing is
// faked. It is a module of its own because Vault's dependencies are none of
// Freehold's. See docs/decisions/0022-vault.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen at")
	storage := flag.String("storage", "", "directory that the sealed data is kept in")
	cert := flag.String("tls-cert", "", "PEM file with the certificate; plain HTTP without")
	key := flag.String("tls-key", "", "PEM file with its private key")
	follow := flag.Bool("follow-stdin", false, "end when standard input does, as it does with the process that holds it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *follow {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	if err := run(ctx, *listen, *storage, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends. The first line it prints is the address.
func run(ctx context.Context, listen, storage, cert, key string) error {
	logger := log.New(&log.LoggerOptions{Output: os.Stderr, Level: log.Info})
	store, err := file.NewFileBackend(map[string]string{"path": storage}, logger.Named("storage"))
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: store, StorageType: "file", Logger: logger, DisableMlock: true,
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory, "pki": pki.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory, "kubernetes": kubernetes.Factory},
		BuiltinRegistry:    registry{},
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{TLSDisable: cert == ""}}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 1)
	go func() {
		if cert != "" {
			served <- server.ServeTLS(l, cert, key)
			return
		}
		served <- server.Serve(l)
	}()
	fmt.Println(l.Addr())
	select {
	case err = <-served:
	case <-ctx.Done():
		err = server.Close()
	}
	return errors.Join(err, core.Shutdown())
}

// registry says of which backends the program has its own. Vault asks it
// before it would look for a plugin's program.
type registry struct{}

var builtin = map[string]consts.PluginType{
	"kv": consts.PluginTypeSecrets, "transit": consts.PluginTypeSecrets, "pki": consts.PluginTypeSecrets,
	"approle": consts.PluginTypeCredential, "kubernetes": consts.PluginTypeCredential,
}

func (registry) Contains(name string, kind consts.PluginType) bool {
	k, ok := builtin[name]
	return ok && k == kind
}

func (registry) Get(string, consts.PluginType) (func() (any, error), bool) { return nil, false }

func (registry) Keys(kind consts.PluginType) []string {
	var names []string
	for name, k := range builtin {
		if k == kind {
			names = append(names, name)
		}
	}
	return names
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
