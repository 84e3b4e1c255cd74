package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
)

func TestLimitsAreTheTenantsThenThePlans(t *testing.T) {
	f := &access.Fleet{DefaultPlan: "free", Plans: map[string]access.Limits{"free": {Rate: 10, Burst: 20}, "pro": {Rate: 100, Concurrency: 8}}}
	require.Equal(t, access.Limits{Rate: 10, Burst: 20}, f.Limits(nil))
	require.Equal(t, access.Limits{Rate: 100, Concurrency: 3}, f.Limits(&access.Tenant{Plan: "pro", Limits: access.Limits{Concurrency: 3}}))
	require.Equal(t, access.Limits{}, f.Limits(&access.Tenant{Plan: "gone"}))
	require.Equal(t, access.Limits{}, new(access.Fleet).Limits(nil))
}
