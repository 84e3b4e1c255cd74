package problem_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/problem"
)

func TestWriteThenRead(t *testing.T) {
	want := problem.New(http.StatusConflict, "tenant_busy", "another operation is under way", "wait for it").
		At("/to", "names the same shard").Param("cursor", "is none of ours")
	want.RequestID = "r1"
	w := httptest.NewRecorder()
	problem.Write(w, want)
	resp := w.Result()
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Equal(t, problem.ContentType, resp.Header.Get("Content-Type"))
	require.Equal(t, want, problem.Read(resp))
	require.Equal(t, "#/to", want.Errors[0].Pointer)
}

func TestReadOfAStrangersPage(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusBadGateway)
	_, _ = w.WriteString("<html>")
	p := problem.Read(w.Result())
	require.Equal(t, "http_502", p.Code)
	require.Equal(t, http.StatusBadGateway, p.Status)
	require.NotEmpty(t, p.Hint)
}
