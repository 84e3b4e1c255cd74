package rest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// cut is a client that is gone when the body comes.
type cut struct{ http.ResponseWriter }

func (cut) Write([]byte) (int, error) { return 0, errors.New("gone") }

// An answer's buffer is for others only when nobody can be reading it any more.
func TestBufferOfAnAnswer(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]http.ResponseWriter{"whole": httptest.NewRecorder(), "cut": cut{httptest.NewRecorder()}} {
		c, _ := gin.CreateTestContext(w)
		c.Request = httptest.NewRequest(http.MethodGet, "/rest/v1/notes", nil)
		text := []byte("[1]")
		out := &outcome{plan: &plan.Plan{}, guess: -1, buffer: &buffer{text: text}}
		out.row[plan.ColumnBody] = text
		req := &request{method: http.MethodGet}
		req.Answer.MaxAffected = -1
		require.NoError(t, writeRead(c, req, out, override{}, 1, -1))
		require.Equal(t, name == "whole", out.buffer == nil, name)
	}
}
