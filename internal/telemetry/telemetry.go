// Package telemetry sets up a process's logs, traces and metrics.
//
// Logs go to standard error through slog, as text or JSON (FREEHOLD_LOG=json),
// at FREEHOLD_LOG_LEVEL (debug, info, warn, error). Traces and metrics are
// pushed only when the standard OTEL_* variables name an exporter; without them
// nothing is recorded and a span costs a few nanoseconds. Prometheus scrapes
// the registry each server keeps for itself (see [NewRegistry]).
//
// Tenants in metrics: a label's every value is a time series for ever, and a
// node may serve a million tenants, so no metric has a tenant label. A tenant
// is an attribute of the request's span and of its log line, which are sampled.
//
// Import law: telemetry imports no other package of this module.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Setup makes logs, traces and metrics of this process ready and returns what
// flushes and ends them; give that a bounded context. service is what the
// process is ("freehold-dataplane"), name which one of them. It fails when an
// OTEL_* variable asks for an exporter that cannot be made.
func Setup(ctx context.Context, service, name string) (shutdown func(context.Context) error, err error) {
	if err := setupLog(os.Stderr, service, name); err != nil {
		return nil, err
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})

	var ends []func(context.Context) error
	shutdown = func(ctx context.Context) error {
		var err error
		for _, end := range ends {
			err = errors.Join(err, end(ctx))
		}
		return err
	}
	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.instance.id", name)))
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	if asked("TRACES") {
		exp, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: traces: %w", err)
		}
		tp := trace.NewTracerProvider(trace.WithBatcher(exp), trace.WithResource(res))
		otel.SetTracerProvider(tp)
		ends = append(ends, tp.Shutdown)
	}
	if asked("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("telemetry: metrics: %w", err), shutdown(ctx))
		}
		mp := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(res))
		otel.SetMeterProvider(mp)
		ends = append(ends, mp.Shutdown)
	}
	return shutdown, nil
}

// Tracing tells whether [Setup] made spans go anywhere, so that hot paths need not make them in vain.
func Tracing() bool {
	_, real := otel.GetTracerProvider().(*trace.TracerProvider)
	return real
}

// asked tells whether the environment names an exporter for the signal.
// autoexport alone would push to localhost:4318 unasked.
func asked(signal string) bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false
	}
	if exporter := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporter != "" {
		return exporter != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// NewRegistry returns a Prometheus registry with the process's and the Go
// runtime's own figures. Each server has its own, so that several in one
// process (the development fleet) do not mix theirs.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
