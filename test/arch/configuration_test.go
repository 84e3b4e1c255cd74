package arch

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/config"
)

// TestConfigurationIsDocumented holds docs/operators/configuration.md against
// both configurations: every field is in its table, in order, with its
// variable and its default, and nothing else is.
func TestConfigurationIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/operators/configuration.md")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(b), "\n## Control plane\n")
	require.True(t, ok)
	control, text, ok := strings.Cut(text, "\n## Data-plane node\n")
	require.True(t, ok)
	data, _, ok := strings.Cut(text, "\n## ")
	require.True(t, ok)

	var c controlplane.Config
	c.Defaults()
	require.Equal(t, fields(t, "", reflect.ValueOf(c)), rows(control))
	var d dataplane.Config
	d.Defaults()
	require.Equal(t, fields(t, "", reflect.ValueOf(d)), rows(data))
}

// row is a line of a table, without its meaning.
type row struct{ key, variable, def string }

// worded are defaults that the documents say in words: nothing, or found at the start.
var worded = map[string]bool{"required": true, "none": true, "looked for": true, "found through `issuer`": true}

var line = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\| (.*?) \\| \\S.* \\|$")

func rows(text string) (all []row) {
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		def := strings.Trim(m[3], "`")
		switch {
		case worded[m[3]]:
			def = ""
		case m[3] == "host name and process ID":
			def = config.InstanceName()
		}
		all = append(all, row{m[1], m[2], def})
	}
	return all
}

func fields(t *testing.T, prefix string, v reflect.Value) (all []row) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, variable := prefix+f.Tag.Get("yaml"), f.Tag.Get("env")
		if f.Tag.Get("yaml") == "-" {
			continue
		}
		require.NotEqual(t, prefix, key, "%s has no key", f.Name)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, fields(t, key+".", v.Field(i))...)
			continue
		}
		require.NotEmpty(t, variable, "%s has no variable", f.Name)
		var def string
		switch x := v.Field(i).Interface().(type) {
		case time.Duration:
			def = x.String()
			for _, zero := range []string{"m0s", "h0m"} { // 5m0s is 5m
				if strings.HasSuffix(def, zero) {
					def = def[:len(def)-2]
				}
			}
		case []string:
			def = strings.Join(x, ",")
		default:
			def = fmt.Sprint(x)
		}
		all = append(all, row{key, variable, def})
	}
	return all
}
