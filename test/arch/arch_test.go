// Package arch keeps the import law of docs/architecture.md.
package arch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

const module = "github.com/freehold-db/freehold/"

// law says, for a package by its path in the module, which packages of the
// module it may import. A package is judged by the longest matching prefix; a
// trailing slash matches everything below.
var law = []struct {
	of  string
	may []string
}{
	{"shardmap", nil},
	{"shardmap/feed", []string{"shardmap", "internal/"}},
	{"internal/", []string{"shardmap", "internal/"}},
	{"router", []string{"shardmap", "shardmap/", "internal/"}},
	{"dataplane", []string{"shardmap", "shardmap/", "internal/", "router", "dataplane/"}},
	{"dataplane/", []string{"shardmap", "shardmap/", "internal/", "router", "dataplane/"}},
	{"dataplane/meter", []string{"shardmap", "internal/traffic"}},
	{"controlplane", []string{"shardmap", "shardmap/", "internal/", "controlplane/"}},
	{"controlplane/", []string{"shardmap", "internal/", "controlplane/"}},
	// The packages of the control plane build on each other in this order.
	{"controlplane/catalog", []string{"shardmap", "internal/"}},
	{"controlplane/operation", []string{"shardmap", "internal/", "controlplane/catalog"}},
	{"controlplane/access", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/operation"}},
	{"controlplane/publish", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/access"}},
	{"controlplane/audit", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/audit/proof"}},
	{"controlplane/audit/proof", []string{}},
	{"controlplane/audit/anchor", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/audit", "controlplane/audit/proof", "controlplane/shard"}},
	{"controlplane/authority", []string{"shardmap"}},
	{"controlplane/identity", []string{"shardmap", "internal/", "controlplane/authority", "controlplane/catalog"}},
	{"controlplane/breakglass", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/shard"}},
	{"controlplane/doctor", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/shard"}},
	{"controlplane/balance", []string{"shardmap"}},
	{"controlplane/balance/", []string{"shardmap", "controlplane/balance"}},
	{"controlplane/placement", []string{"shardmap", "controlplane/catalog", "controlplane/balance", "controlplane/balance/policyfile", "controlplane/usage"}},
	{"controlplane/provision", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/operation", "controlplane/placement", "controlplane/shard"}},
	{"controlplane/shard", []string{"shardmap", "internal/", "controlplane/catalog"}},
	{"controlplane/usage", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/balance", "controlplane/move/pace"}},
	{"controlplane/rebalance", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/operation", "controlplane/placement", "controlplane/usage",
		"controlplane/balance", "controlplane/balance/", "controlplane/move"}},
	{"controlplane/clone", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/operation", "controlplane/shard", "controlplane/provision", "controlplane/access",
		"controlplane/move/data", "controlplane/move/pace", "controlplane/move/schema", "controlplane/move/survey"}},
	{"controlplane/rotation", []string{"shardmap", "internal/", "controlplane/catalog", "controlplane/operation", "controlplane/publish", "controlplane/shard"}},
	{"controlplane/move/protocol", []string{"controlplane/operation"}},
	{"controlplane/move/ddlguard", []string{"internal/"}},
	{"controlplane/move/diff", []string{"internal/", "controlplane/move/stream", "controlplane/move/survey"}},
	{"cli", []string{"shardmap", "shardmap/", "internal/", "router", "dataplane", "dataplane/", "controlplane", "controlplane/", "deploy/sample", "cli/"}},
	{"cli/", []string{"shardmap", "shardmap/", "internal/", "router", "dataplane", "dataplane/", "controlplane", "controlplane/", "deploy/sample", "cli", "cli/"}},
	// The typed client speaks to the admin API over the wire, as anyone's would; it shares the words only.
	{"cli/client", []string{"shardmap", "internal/", "controlplane/adminapi/api"}},
	{"controlplane/adminapi/api", []string{"shardmap"}},
}

// testOnly packages start servers for tests; no shipped code may import them.
var testOnly = []string{"internal/pgtest", "internal/leaktest"}

func TestImportLaw(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports, Dir: root}, "./...")
	require.NoError(t, err)
	require.Greater(t, len(pkgs), 10, "the module's packages were not found")
	for _, p := range pkgs {
		require.Empty(t, p.Errors, p.PkgPath)
		from := strings.TrimPrefix(p.PkgPath, module)
		if strings.HasPrefix(from, "test/") || strings.HasSuffix(from, "test") {
			continue // tests may import anything
		}
		for imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if !allowed(from, to) {
				t.Errorf("%s may not import %s (docs/architecture.md, import law)", from, to)
			}
			for _, only := range testOnly {
				if to == only {
					t.Errorf("%s imports %s, which is for tests only", from, to)
				}
			}
		}
	}
}

// TestLawBites is the control: the law must refuse what it exists to refuse.
func TestLawBites(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"dataplane/rest", "controlplane/catalog"},
		{"controlplane/move", "dataplane/gateway"},
		{"shardmap", "internal/pg"},
		{"internal/pg", "router"},
		{"router", "dataplane/rest"},
		{"controlplane/catalog", "controlplane/operation"},
		{"cli/client", "controlplane/adminapi"},
	} {
		require.False(t, allowed(c.from, c.to), "%s -> %s", c.from, c.to)
	}
	require.True(t, allowed("dataplane/rest", "router"))
	require.False(t, allowed("brandnew", "shardmap"), "a package the law does not know may import nothing of ours")
}

func allowed(from, to string) bool {
	best, may := -1, []string(nil)
	for _, l := range law {
		if matches(from, l.of) && len(l.of) > best {
			best, may = len(l.of), l.may
		}
	}
	for _, m := range may {
		if matches(to, m) {
			return true
		}
	}
	return false
}

// matches tells whether path is the pattern, or lies below it when the pattern ends in a slash.
func matches(path, pattern string) bool {
	return path == pattern || strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern)
}

// topLevel is what the repository's top may hold: a new room needs a decision, not a mkdir.
var topLevel = map[string]bool{
	"controlplane": true, "dataplane": true, "router": true, "shardmap": true, "cli": true, "deploy": true,
	"test": true, "internal": true, "docs": true, "bin": true, "go.mod": true, "go.sum": true, "Makefile": true,
	"README.md": true, "LICENSE": true, "CHANGELOG.md": true, "CONTRIBUTING.md": true,
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("../..")
	require.NoError(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !topLevel[e.Name()] {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}
