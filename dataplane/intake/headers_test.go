package intake_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/intake"
)

func TestHeaders(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"accept":"a, b","x-quote":"\"\n"}`, string(intake.Headers(http.Header{
		"X-Quote": {"\"\n"}, "Accept": {"a", "b"}, "Authorization": {"s"}, "Cookie": {"s"}, "Apikey": {"s"}, "Neon-Connection-String": {"s"},
	})))
	require.Equal(t, `{}`, string(intake.Headers(nil)))
}

func FuzzHeaders(f *testing.F) {
	f.Add("X-Name", "value\xff\x00")
	f.Fuzz(func(t *testing.T, name, value string) {
		require.True(t, json.Valid(intake.Headers(http.Header{name: {value}, "X-Other": nil})))
	})
}
