package pgserver

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHBALines(t *testing.T) {
	t.Parallel()
	h := HBA{Platform: []string{"admin", "lookup"}, From: []string{"10.0.0.0/24"}, People: []string{"10.9.0.0/16"}}
	require.Equal(t, []string{
		"local all +admin scram-sha-256",
		"local all +lookup scram-sha-256",
		"local samerole all scram-sha-256",
		"host samerole +freehold_people 10.9.0.0/16 scram-sha-256",
		"host all +admin 10.0.0.0/24 scram-sha-256",
		"host all +lookup 10.0.0.0/24 scram-sha-256",
		"host samerole all 10.0.0.0/24 scram-sha-256",
		"local all all reject",
		"host all all all reject",
	}, h.Lines())

	plain := h.Lines()
	h.TLS = true
	for i, line := range h.Lines() {
		switch {
		case strings.HasPrefix(line, "local "), strings.HasSuffix(line, " reject"):
			require.Equal(t, plain[i], line)
		case strings.Contains(line, "+freehold_people"):
			require.Equal(t, strings.Replace(plain[i], "host ", "hostssl ", 1), line, "people have no certificate")
		default:
			require.Equal(t, strings.Replace(plain[i], "host ", "hostssl ", 1)+" clientcert=verify-ca", line)
		}
	}
	require.Equal(t, HBA{Platform: []string{"a"}}.Lines(), HBA{Platform: []string{"a"}, From: []string{"127.0.0.1/32", "::1/128"}, People: []string{"127.0.0.1/32", "::1/128"}}.Lines())
}
