package shardmap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/shardmap"
)

// A node answers where its own key lets it; those of before, on either side, where all do.
func TestAnswers(t *testing.T) {
	t.Parallel()
	reply, _ := shardmap.AnswersTo("q1")
	for _, node := range []string{"n1", "node", "host.example.n2"} {
		require.NoError(t, shardmap.CheckNode(node))
		own := shardmap.AnswerOf(reply, node)
		require.NotEqual(t, reply, own)
		require.True(t, shardmap.Spoke(own, node) && shardmap.Answered(own, node), own)
		require.False(t, shardmap.Answered(own, "another"), own)
		require.True(t, shardmap.Answered(reply, node), "a node of before")
		require.False(t, shardmap.Spoke(reply, node))
		require.Equal(t, "_INBOX.x.y", shardmap.AnswerOf("_INBOX.x.y", node), "a control plane of before")
	}
	require.False(t, shardmap.Answered(reply, ""))
	require.Error(t, shardmap.CheckNode("~"))
	require.Error(t, shardmap.CheckNode("."))
}
