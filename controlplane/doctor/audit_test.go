package doctor

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJudgeAudit(t *testing.T) {
	t.Parallel()
	sound := Audit{Max: 100, StreamSeen: true, StreamMax: 1 << 30}
	for name, c := range map[string]struct {
		spoil func(a *Audit)
		want  []string
		worst Severity
	}{
		"sound":              {func(*Audit) {}, nil, ""},
		"some wait":          {func(a *Audit) { a.Waiting, a.Oldest = 5, time.Second }, nil, ""},
		"they wait long":     {func(a *Audit) { a.Waiting, a.Oldest = 5, time.Hour }, []string{"audit-outbox"}, Warning},
		"away":               {func(a *Audit) { a.Why = "away" }, []string{"audit-outbox"}, Warning},
		"diverged":           {func(a *Audit) { a.Why = "diverged" }, []string{"audit-outbox"}, Critical},
		"full":               {func(a *Audit) { a.Waiting = 100 }, []string{"audit-outbox"}, Critical},
		"no catalog":         {func(a *Audit) { a.Err = errors.New("no route") }, []string{"audit-outbox"}, Unknown},
		"stream unseen":      {func(a *Audit) { a.StreamSeen = false }, []string{"audit-stream"}, Unknown},
		"stream unbounded":   {func(a *Audit) { a.StreamMax = 0 }, []string{"audit-stream"}, Warning},
		"stream nearly full": {func(a *Audit) { a.StreamNearlyFull = true }, []string{"audit-stream"}, Warning},
	} {
		a, f := sound, &findings{}
		c.spoil(&a)
		a.judge(f)
		require.Equal(t, c.want, checks(f), name)
		if len(c.want) > 0 {
			require.Equal(t, c.worst, f.list[0].Severity, name)
		}
	}
}
