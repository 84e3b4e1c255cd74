package adminapi

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"gopkg.in/yaml.v3"
)

// Document is the API's OpenAPI document, as YAML.
//
//go:embed openapi.yaml
var Document []byte

// documentJSON is the same as JSON. The document is embedded, so that a fault in it is a bug (and a test's to find).
var documentJSON = sync.OnceValue(func() []byte {
	var doc map[string]any
	if err := yaml.Unmarshal(Document, &doc); err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	return text
})

// documentPaths are the document's operation IDs by path (as gin writes it) and method.
func documentPaths() map[string]map[string]string {
	var doc struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(Document, &doc); err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	paths := map[string]map[string]string{}
	for path, item := range doc.Paths {
		path = parameter.ReplaceAllString(path, ":$1")
		paths[path] = map[string]string{}
		for method, node := range item {
			var op struct {
				OperationID string `yaml:"operationId"`
			}
			if node.Kind == yaml.MappingNode && node.Decode(&op) == nil && op.OperationID != "" {
				paths[path][strings.ToUpper(method)] = op.OperationID
			}
		}
	}
	return paths
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// readyFor bounds a look at the catalog.
const readyFor = 2 * time.Second

// readiness says how the audit log's outbox is, too. A replica whose outbox is
// at its bound is ready all the same: it reads, and takes rights away.
func (a *API) readiness(ctx context.Context) []byte {
	doc := struct {
		Status string `json:"status"`
		Audit  string `json:"audit,omitempty"`
		// Waiting records, and why they do: "away", "diverged", "tampered".
		Waiting int64  `json:"audit_waiting,omitempty"`
		Why     string `json:"audit_trouble,omitempty"`
	}{Status: "ready"}
	if a.Outbox != nil {
		if b, err := a.Outbox.Look(ctx); err == nil {
			doc.Audit, doc.Waiting, doc.Why = "recorded", b.Records, b.Why
			switch {
			case b.Full():
				doc.Audit = "changes are refused"
			case b.Why != "":
				doc.Audit = "records wait"
			}
		}
	}
	text, err := json.Marshal(doc)
	if err != nil { // of strings and numbers
		return []byte(`{"status":"ready"}`)
	}
	return text
}

// public are the routes without a token: they tell nothing of any tenant.
func (a *API) public(e *gin.Engine) {
	e.GET("/healthz", func(c *gin.Context) { a.send(c, http.StatusOK, []byte(`{"status":"ok"}`)) })
	e.GET("/readyz", func(c *gin.Context) {
		ctx, cancel := context.WithTimeout(c.Request.Context(), readyFor)
		defer cancel()
		if err := a.Catalog.Tx(ctx, func(context.Context, pgx.Tx) error { return nil }); err != nil {
			a.fail(c, err)
			return
		}
		a.send(c, http.StatusOK, a.readiness(ctx))
	})
	e.GET("/signin", a.signIn)
	e.GET("/openapi.yaml", func(c *gin.Context) { c.Data(http.StatusOK, "application/yaml", Document) })
	e.GET("/openapi.json", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", documentJSON()) })
	if a.Metrics != nil {
		e.GET("/metrics", gin.WrapH(a.Metrics))
	}
}
