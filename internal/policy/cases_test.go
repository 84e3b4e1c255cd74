package policy_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/policy"
)

// A case is judged as a node would: a write that answers with its rows is a read, too.
func TestWritesThatShowRows(t *testing.T) {
	t.Parallel()
	s, err := policy.ReadSuite([]byte(`
tenant: [{name: blind, text: 'forbid (principal, action in Action::"read", resource);'}]
cases:
  - {request: {method: GET, table: notes}, principal: {role: editor}, expect: deny}
  - {request: {method: PATCH, table: notes}, principal: {role: editor}, expect: allow}
  - {request: {method: PATCH, table: notes}, principal: {role: editor}, headers: {prefer: "count=exact, return=representation"}, expect: deny, by: [blind]}
  - {request: {method: POST, table: notes}, principal: {role: editor}, headers: {prefer: "return=minimal,return=representation"}, expect: allow}
  - {request: {method: POST, function: f}, principal: {role: editor}, headers: {prefer: return=representation}, expect: allow}
`), func(string) ([]byte, error) { return nil, errors.New("there are no files") })
	require.NoError(t, err)
	for _, r := range s.Run() {
		require.Empty(t, r.Fault, r.Case.Name)
	}
}
