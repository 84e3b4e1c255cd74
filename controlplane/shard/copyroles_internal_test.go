package shard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMembershipInTheWordsOfEachVersion(t *testing.T) {
	member := role{Name: "m", Inherit: false}
	for _, c := range []struct {
		of    []string
		major int
		want  string
	}{
		{[]string{"g", "false", "", ""}, 15, `GRANT "g" TO "m";`},
		{[]string{"g", "true", "", ""}, 15, `GRANT "g" TO "m" WITH ADMIN OPTION;`},
		{[]string{"g", "false", "", ""}, 18, `GRANT "g" TO "m" WITH ADMIN false, INHERIT false, SET true;`},
		{[]string{"g", "true", "true", "false"}, 18, `GRANT "g" TO "m" WITH ADMIN true, INHERIT true, SET false;`},
		{[]string{"g", "false", "false", "true"}, 15, `GRANT "g" TO "m";`},
		{[]string{"g", "false", "false", "false"}, 15, ``}, // never more than was granted
	} {
		got := membership(member, c.of, c.major)
		if c.want != "" {
			c.want += "\n"
		}
		require.Equal(t, c.want, got, "%+v", c)
	}
}
