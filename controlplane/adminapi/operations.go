package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) listOperations(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "kind", "tenant", "state", "unfinished", "of"); err != nil {
		return answer{}, err
	}
	p, err := readPageByID("operations", c.query)
	if err != nil {
		return answer{}, err
	}
	f := operation.Filter{Kind: c.query.Get("kind")}
	if checkName("", f.Kind) != nil {
		return answer{}, invalidParameter("kind", "is not a kind of operation")
	}
	if s := c.query.Get("tenant"); s != "" {
		if f.Tenant, err = shardmap.ParseTenantID(s); err != nil {
			return answer{}, invalidParameter("tenant", "is not a tenant's ID")
		}
	}
	if s := c.query.Get("state"); s != "" {
		for _, one := range strings.Split(s, ",") {
			switch state := operation.State(one); state {
			case operation.Pending, operation.Running, operation.Undoing, operation.Done, operation.Failed, operation.Canceled:
				f.States = append(f.States, state)
			default:
				return answer{}, invalidParameter("state", "is not a comma-separated list of pending, running, undoing, done, failed, canceled")
			}
		}
	}
	if f.Unfinished, err = readBool(c, "unfinished"); err != nil {
		return answer{}, err
	}
	if f.Of, err = readOf(c); err != nil {
		return answer{}, err
	}
	f.Sight = c.sight()
	ops, next, err := a.Operations.List(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("operations", ops, next, operationDoc))
}

func (a *API) getOperation(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	doc, err := a.fullOperation(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(doc)
}

// fullOperation reads an operation with its journal.
func (a *API) fullOperation(ctx context.Context, id string) (api.Operation, error) {
	op, err := a.Operations.Get(ctx, id)
	if err != nil {
		return api.Operation{}, err
	}
	steps, err := a.Operations.Steps(ctx, id)
	if err != nil {
		return api.Operation{}, err
	}
	doc := operationDoc(op)
	for _, s := range steps {
		doc.Steps = append(doc.Steps, api.Step{Step: s.Step, Undo: s.Undo, Attempt: s.Attempt,
			StartedAt: s.StartedAt.UTC(), FinishedAt: utc(s.FinishedAt), Error: s.Error})
	}
	return doc, nil
}

func (a *API) cancelOperation(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	var op *operation.Operation
	err = a.Catalog.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if op, err = a.Operations.CancelTx(ctx, tx, id, c.actor); err != nil {
			return err
		}
		return a.Catalog.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: c.actor, Action: "operation.cancel",
			Object: "operation/" + id, Tenant: op.Tenant, Outcome: "accepted", TraceID: traceID(ctx)})
	})
	return begun(op, err)
}

const (
	// The catalog is looked at often at first, for what is over soon, then every watchEvery.
	watchFirst = 10 * time.Millisecond
	watchEvery = 250 * time.Millisecond
	// watchBeat keeps proxies from taking a quiet stream for a dead one.
	watchBeat = 10 * time.Second
	// watchFor bounds one stream; the watcher connects again.
	watchFor = 15 * time.Minute
	// watchWrite bounds one write to a watcher that does not read.
	watchWrite = 10 * time.Second
)

// watchOperation streams the operation as server-sent events: one
// "operation" event whenever it changed, and the stream ends after the final one.
func (a *API) watchOperation(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	first, err := a.fullOperation(ctx, id)
	if err != nil {
		return answer{}, err
	}
	select {
	case a.watchers <- struct{}{}:
	default:
		return answer{}, problem.New(http.StatusServiceUnavailable, "too_many_watchers", "this replica streams to as many watchers as it may",
			"read the operation every second or so instead of watching it")
	}
	return answer{stream: func(ctx context.Context, w gin.ResponseWriter) {
		defer func() { <-a.watchers }()
		ctx, cancel := context.WithTimeout(ctx, watchFor)
		defer cancel()
		a.watch(ctx, w, first)
	}}, nil
}

func (a *API) watch(ctx context.Context, w gin.ResponseWriter, doc api.Operation) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	write := func(format string, args ...any) bool {
		// A recorder in a test has no deadlines; a server's connection has.
		_ = control.SetWriteDeadline(time.Now().Add(watchWrite))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	wait := watchFirst
	tick := time.NewTimer(wait)
	defer tick.Stop()
	var last []byte
	beat := time.Now()
	for id := doc.ID; ; {
		body, err := json.Marshal(doc)
		if err != nil {
			a.Log.ErrorContext(ctx, "watched operation cannot be encoded", "operation", id, "error", err)
			return
		}
		switch {
		case !bytes.Equal(body, last):
			if !write("event: operation\ndata: %s\n\n", body) {
				return
			}
			last, beat = body, time.Now()
		case time.Since(beat) > watchBeat:
			if !write(": still here\n\n") {
				return
			}
			beat = time.Now()
		}
		if doc.Final() {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-a.closing:
			return
		}
		wait = min(wait*5/4, watchEvery)
		tick.Reset(wait)
		// While the catalog is away the watcher sees heartbeats; it goes on with the next good read.
		if newer, err := a.fullOperation(ctx, id); err == nil {
			doc = newer
		}
	}
}

// operationID is the path's. Any UUID will do; what is none is no operation's.
func (c *call) operationID() (string, error) {
	id, err := uuid.Parse(c.params.ByName("operation"))
	if err != nil || len(c.params.ByName("operation")) != 36 {
		return "", problem.New(http.StatusBadRequest, "invalid_id", "an operation's ID is a UUID",
			"tenant-ops op list shows the IDs").Param("operation", "is not a UUID")
	}
	return id.String(), nil
}

func operationDoc(op *operation.Operation) api.Operation {
	doc := api.Operation{
		ID: op.ID, Kind: op.Kind, Tenant: op.Tenant, State: string(op.State), Step: op.Step,
		PastNoReturn: op.PastNoReturn, CancelRequested: op.CancelRequested, Attempt: op.Attempt,
		Progress: api.Progress{
			Phase: op.Progress.Phase, Percent: op.Progress.Percent, BytesDone: op.Progress.BytesDone, BytesTotal: op.Progress.BytesTotal,
			BytesPerSecond: op.Progress.Rate, ETASeconds: op.Progress.ETA.Seconds(), Waiting: op.Progress.Waiting,
		},
		Receipt: document(op.Receipt), Error: op.Error, CreatedBy: op.CreatedBy, Reason: op.Reason,
		Asked: paceDoc(op), CreatedAt: op.CreatedAt.UTC(), StartedAt: utc(op.StartedAt), FinishedAt: utc(op.FinishedAt), Worker: op.Worker,
	}
	if !op.State.Final() && !op.NextRun.IsZero() {
		doc.NextRun = utc(&op.NextRun)
	}
	return doc
}

// document is a stored JSON object, nil if there is none.
func document(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}
