package vault

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/freehold-db/freehold/internal/config"
)

// The ways to log in.
const (
	AppRole    = "approle"
	Kubernetes = "kubernetes"
)

// Config says where Vault is and how to log in there. No secret is in it but
// SecretID, which comes from the environment alone.
type Config struct {
	// Address is Vault's URL; plain http is for loopback addresses alone.
	Address string `yaml:"address" env:"FREEHOLD_VAULT_ADDRESS"`
	// Namespace of Vault Enterprise; empty: the root's.
	Namespace string `yaml:"namespace" env:"FREEHOLD_VAULT_NAMESPACE"`
	// CAFile (PEM) has the roots that sign Vault's certificate; empty: the system's.
	CAFile string `yaml:"ca_file" env:"FREEHOLD_VAULT_CA_FILE"`
	// ServerName is what the certificate must be for, when that is not Address's host.
	ServerName string `yaml:"server_name" env:"FREEHOLD_VAULT_SERVER_NAME"`
	// Auth is how to log in: AppRole or Kubernetes; AuthMount where that is enabled (its name).
	Auth      string `yaml:"auth" env:"FREEHOLD_VAULT_AUTH"`
	AuthMount string `yaml:"auth_mount" env:"FREEHOLD_VAULT_AUTH_MOUNT"`
	// RoleIDFile and SecretIDFile are read at each login. SecretID stands in for the file.
	RoleIDFile   string `yaml:"role_id_file" env:"FREEHOLD_VAULT_ROLE_ID_FILE"`
	SecretIDFile string `yaml:"secret_id_file" env:"FREEHOLD_VAULT_SECRET_ID_FILE"`
	SecretID     string `yaml:"-" env:"FREEHOLD_VAULT_SECRET_ID"`
	// Role is the role of Kubernetes auth, ServiceAccountFile the token shown for it, read at each login.
	Role               string `yaml:"role" env:"FREEHOLD_VAULT_ROLE"`
	ServiceAccountFile string `yaml:"service_account_file" env:"FREEHOLD_VAULT_SERVICE_ACCOUNT_FILE"`
	// KVMount is a KV engine of version 2, Prefix a path in it; TransitMount a transit engine.
	KVMount      string `yaml:"kv_mount" env:"FREEHOLD_VAULT_KV_MOUNT"`
	Prefix       string `yaml:"prefix" env:"FREEHOLD_VAULT_PREFIX"`
	TransitMount string `yaml:"transit_mount" env:"FREEHOLD_VAULT_TRANSIT_MOUNT"`
	// Timeout bounds one request to Vault.
	Timeout time.Duration `yaml:"timeout" env:"FREEHOLD_VAULT_TIMEOUT"`

	// Certificate, when it names a role, is kept in files.
	Certificate Certificate `yaml:"certificate"`
}

// String hides SecretID.
func (c Config) String() string {
	hidden := ""
	if c.SecretID != "" {
		hidden = " with a secret ID of the environment"
	}
	return c.Auth + " at " + c.Address + hidden
}

// GoString hides SecretID from %#v, too.
func (c Config) GoString() string { return c.String() }

// Defaults fills what is zero.
func (c *Config) Defaults() {
	config.Default(&c.Auth, AppRole)
	config.Default(&c.AuthMount, c.Auth)
	config.Default(&c.ServiceAccountFile, "/var/run/secrets/kubernetes.io/serviceaccount/token")
	config.Default(&c.KVMount, "freehold")
	config.Default(&c.TransitMount, "transit")
	config.Default(&c.Timeout, 2*time.Second)
	c.Certificate.defaults()
}

// Check adds to the faults of a configuration which names Vault.
func (c *Config) Check(faults *config.Faults) {
	check := faults.Check
	u, err := url.Parse(c.Address)
	ok := err == nil && u.Host != "" && u.User == nil
	check(ok && (u.Scheme == "https" || u.Scheme == "http"), "vault: address: want the https URL of Vault")
	check(!ok || u.Scheme != "http" || loopback(u.Hostname()), "vault: address: plain http is for loopback addresses alone")
	switch c.Auth {
	case AppRole:
		check(c.RoleIDFile != "", "vault: role_id_file: AppRole needs it")
		check((c.SecretIDFile != "") != (c.SecretID != ""), "vault: secret_id_file or the variable FREEHOLD_VAULT_SECRET_ID: AppRole needs one of them")
	case Kubernetes:
		check(c.Role != "", "vault: role: Kubernetes auth needs it")
	default:
		check(false, "vault: auth: %q: want %s or %s", c.Auth, AppRole, Kubernetes)
	}
	for name, mount := range map[string]string{"auth_mount": c.AuthMount, "kv_mount": c.KVMount, "transit_mount": c.TransitMount} {
		check(isPath(mount), "vault: %s: %q: want words joined by slashes", name, mount)
	}
	check(c.Prefix == "" || isPath(c.Prefix), "vault: prefix: %q: want words joined by slashes", c.Prefix)
	check(c.Timeout > 0, "vault: timeout: must be positive")
	c.Certificate.check(faults)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func isPath(s string) bool {
	return s != "" && url.PathEscape(strings.ReplaceAll(s, "/", "")) == strings.ReplaceAll(s, "/", "") &&
		!strings.HasPrefix(s, "/") && !strings.HasSuffix(s, "/") && !strings.Contains(s, "..") && !strings.Contains(s, "//")
}

// login is the path to log in at and what is shown there, read anew, so that
// what was rotated in the files counts with the next login.
func (c *Config) login() (path string, shown map[string]any, err error) {
	path = "auth/" + c.AuthMount + "/login"
	if c.Auth == Kubernetes {
		token, err := readFile(c.ServiceAccountFile)
		return path, map[string]any{"role": c.Role, "jwt": token}, err
	}
	role, err := readFile(c.RoleIDFile)
	if err != nil {
		return "", nil, err
	}
	id := c.SecretID
	if c.SecretIDFile != "" {
		if id, err = readFile(c.SecretIDFile); err != nil {
			return "", nil, err
		}
	}
	return path, map[string]any{"role_id": role, "secret_id": id}, nil
}

func readFile(name string) (string, error) {
	b, err := os.ReadFile(name) //nolint:gosec // the operator's own file
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return s, nil
}
