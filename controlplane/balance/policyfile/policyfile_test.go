package policyfile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
	"github.com/freehold-db/freehold/shardmap"
)

const sample = `
policy:
  headroom: 25%
  tolerance: 0.04
  floor: {bytes: 10%}
  cooldown: 36h
  quiet: [mon-fri 08:00-18:00, "22:00-23:30"]
  max_moves: 8
  max_bytes_per_hour: 500GB
shards:
  s1: {bytes: 2TiB, connections: 500, load: 7.5, wal: 50MB/s, databases: 5000}
  s2: {}
tenants:
  acme: {region: eu, require: {disk: nvme}, forbid: {disk: hdd}, apart: banks, exclusive: true}
  old-one: {pinned: true, class: large}
`

func TestParse(t *testing.T) {
	d, err := policyfile.Parse([]byte(sample))
	require.NoError(t, err)
	want := balance.DefaultPolicy()
	want.Headroom, want.Tolerance, want.Floor[balance.Bytes], want.Cooldown = 0.25, 0.04, 0.1, 36*time.Hour
	want.Quiet = []balance.Window{{From: 480, To: 1080, Days: []time.Weekday{1, 2, 3, 4, 5}}, {From: 1320, To: 1410}}
	want.MaxMoves, want.MaxBytesPerHour = 8, 5e11
	require.Equal(t, &policyfile.Document{
		Policy: want,
		Shards: map[shardmap.ShardID]balance.Vector{"s1": {2 << 40, 500, 7.5, 5e7, 5000}, "s2": {}},
		Tenants: map[shardmap.TenantID]balance.Needs{
			"acme":    {Region: "eu", Require: map[string]string{"disk": "nvme"}, Forbid: map[string]string{"disk": "hdd"}, Apart: "banks", Exclusive: true},
			"old-one": {Pinned: true, Class: "large"},
		},
	}, d)
	empty, err := policyfile.Parse(nil)
	require.NoError(t, err)
	require.Equal(t, balance.DefaultPolicy(), empty.Policy)
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	for text, says := range map[string]string{
		"policy: {headroom: 100%}":                                        "headroom",
		"policy: {headroom: -1}":                                          `line 1: "-1": want a share`,
		"policy: {headroom: much}":                                        `"much"`,
		"policy: {tolerance: 0}":                                          "nothing is ever exactly even",
		"policy: {hedroom: 1%}":                                           "field hedroom not found",
		"policy: {quiet: [all day]}":                                      `quiet hours "all day"`,
		"policy: {quiet: ['00:00-24:00']}":                                "leave no time",
		"policy: {cooldown: -1h}":                                         "negative",
		"policy: {max_bytes_per_hour: 5 parsecs}":                         "want a number of bytes",
		"shards: {S1: {}}":                                                `shard "S1"`,
		"shards: {s1: {bytes: NaN}}":                                      `"NaN"`,
		"shards: {s1: {wal: 1e400}}":                                      "want bytes a second",
		"tenants: {'': {}}":                                               "tenant",
		"tenants: {acme: {require: {a: b}, forbid: {a: b}}}":              "requires the label a=b and forbids it",
		"policy: {max_moves: -1}":                                         "negative",
		"{}\n---\n{}":                                                     "more than one document",
		"tenants: {acme: {region: [eu]}}":                                 "cannot unmarshal",
		"shards: {s1: {bytes: 1GB}, s1: {bytes: 2GB}}":                    "already defined",
		"policy: {floor: {bytes: 200%}}":                                  "floor of bytes",
		"policy: {quiet: ['10:00-22:00', '22:00-10:00']}":                 "leave no time",
		"policy: {quiet: ['mon-sun 00:00-24:00']}":                        "leave no time",
		"policy: {quiet: ['sat,sun 00:00-24:00', 'mon-fri 00:00-24:00']}": "leave no time",
	} {
		_, err := policyfile.Parse([]byte(text))
		require.ErrorIs(t, err, balance.ErrInvalid, text)
		require.ErrorContains(t, err, says, text)
	}
}

func TestDiff(t *testing.T) {
	before, err := policyfile.Parse([]byte(sample))
	require.NoError(t, err)
	after, err := policyfile.Parse([]byte(`
policy: {headroom: 30%, tolerance: 4%, floor: {bytes: 10%}, cooldown: 36h, max_moves: 8, max_bytes_per_hour: 500GB}
shards:
  s1: {bytes: 3TB, connections: 500, load: 7.5, wal: 50MB/s, databases: 5000}
  s3: {load: 2}
tenants:
  acme: {region: eu, require: {disk: nvme}, forbid: {disk: hdd}, exclusive: true}
  old-one: {pinned: true, class: large}
`))
	require.NoError(t, err)
	changes, err := policyfile.Diff(before, after)
	require.NoError(t, err)
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	require.Equal(t, []string{
		"~ policy.headroom: 25% → 30%",
		"- policy.quiet: mon,tue,wed,thu,fri 08:00-18:00; 22:00-23:30",
		"~ shards.s1.bytes: 2199023255552 → 3TB",
		"- shards.s2: {}",
		"+ shards.s3.load: 2",
		"- tenants.acme.apart: banks",
	}, lines)
	same, err := policyfile.Diff(before, before)
	require.NoError(t, err)
	require.Empty(t, same)
}

func TestImpose(t *testing.T) {
	d, err := policyfile.Parse([]byte("shards: {s1: {bytes: 1GB}}\ntenants: {acme: {pinned: true}}"))
	require.NoError(t, err)
	f := &balance.Fleet{Shards: []balance.Shard{{ID: "s1"}, {ID: "s2", Capacity: balance.Vector{7}}}, Tenants: []balance.Tenant{{ID: "acme"}, {ID: "other", Needs: &balance.Needs{Pinned: true}}}}
	require.NoError(t, d.Impose(f))
	require.Equal(t, 1e9, f.Shards[0].Capacity[balance.Bytes])
	require.Zero(t, f.Shards[1].Capacity)
	require.True(t, f.Tenants[0].Needs.Pinned)
	require.Nil(t, f.Tenants[1].Needs)
	require.ErrorIs(t, d.Impose(&balance.Fleet{Shards: f.Shards}), balance.ErrInvalid)
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("policy: {headroom: 12.5%}")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := policyfile.Parse([]byte(text))
		if err != nil {
			require.ErrorIs(t, err, balance.ErrInvalid)
			return
		}
		written, err := d.Write()
		require.NoError(t, err)
		again, err := policyfile.Parse(written)
		require.NoError(t, err, string(written))
		changes, err := policyfile.Diff(d, again)
		require.NoError(t, err)
		require.Empty(t, changes, string(written))
		require.Equal(t, d.Policy, again.Policy)
		require.Equal(t, d.Shards, again.Shards)
	})
}
