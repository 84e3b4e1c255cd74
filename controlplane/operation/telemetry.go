package operation

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/freehold-db/freehold/controlplane/operation"

// The instruments go to whatever provider is set up by the time they are used.
var (
	tracer       = otel.Tracer(scope)
	meter        = otel.Meter(scope)
	operations   = counter("freehold.operations", "Operations that ended, by kind and outcome")
	stepDuration = histogram("freehold.operation.step.duration", "Time one try of a step took, by kind, step and outcome")
)

func counter(name, what string) metric.Int64Counter {
	c, err := meter.Int64Counter(name, metric.WithDescription(what), metric.WithUnit("{operation}"))
	if err != nil {
		otel.Handle(err) // c is usable all the same
	}
	return c
}

func histogram(name, what string) metric.Float64Histogram {
	h, err := meter.Float64Histogram(name, metric.WithDescription(what), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000, 3000))
	if err != nil {
		otel.Handle(err)
	}
	return h
}

func startSpan(ctx context.Context, t *try) (context.Context, trace.Span) {
	op := t.claim.op
	return tracer.Start(ctx, op.Kind+"/"+t.step.Name, trace.WithAttributes(
		attribute.String("freehold.operation", op.ID), attribute.String("freehold.tenant", string(op.Tenant)),
		attribute.Bool("freehold.undo", t.undo), attribute.Int("freehold.attempt", op.Attempt)))
}

func endSpan(ctx context.Context, span trace.Span, t *try, took time.Duration, err error) {
	outcome := "ok"
	if err != nil && !t.committed {
		outcome = "error"
		span.RecordError(err)
		span.SetStatus(codes.Error, "")
	}
	span.End()
	stepDuration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("kind", t.claim.kind.name),
		attribute.String("step", t.step.Name), attribute.Bool("undo", t.undo), attribute.String("outcome", outcome)))
}

// counters are what an engine shows of its own at /metrics.
type counters struct{ ended, takeovers *prometheus.CounterVec }

func newCounters(r prometheus.Registerer) counters {
	c := counters{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_operations_ended_total", Help: "Operations that this replica saw to their end, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		takeovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_operation_takeovers_total", Help: "Operations that this replica took over because their worker's lease ran out.",
		}, []string{"kind"}),
	}
	if r != nil {
		r.MustRegister(c.ended, c.takeovers)
	}
	return c
}

func (e *Engine) finished(ctx context.Context, op *Operation) {
	operations.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", op.Kind), attribute.String("outcome", string(op.State))))
	e.count.ended.WithLabelValues(op.Kind, string(op.State)).Inc()
}
