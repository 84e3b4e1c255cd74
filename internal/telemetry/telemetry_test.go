package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/freehold-db/freehold/internal/telemetry"
)

func TestLogHidesSecrets(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(telemetry.NewLogHandler(&out, slog.LevelInfo, true))
	log.Info("x",
		"password", "hunter2", "admin_token", "hunter2", "Authorization", "Bearer hunter2",
		"dsn", "postgres://u:hunter2@h/db", "kv", "host=h Password='hunter2 hunter2' user=u",
		"got", "Bearer eyJhbGci.eyJzdWIi.hunter2", "err", errors.New("dial postgres://u:hunter2@h: refused"),
		"tokens", 7)
	require.NotContains(t, out.String(), "hunter2")
	require.Contains(t, out.String(), "postgres://u:***@h/db")
	require.Contains(t, out.String(), "host=h Password=*** user=u")
	require.Contains(t, out.String(), `"tokens":7`)
}

func TestLogCarriesTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(telemetry.NewLogHandler(&out, slog.LevelInfo, false)).With("a", 1)
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	log.InfoContext(ctx, "x")
	require.Contains(t, out.String(), "trace_id=01000000000000000000000000000000 span_id=0200000000000000")
}

func TestSetupPushesNothingUnasked(t *testing.T) {
	for _, v := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		t.Setenv(v, "")
	}
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	tp := otel.GetTracerProvider()
	shutdown, err := telemetry.Setup(t.Context(), "test", "one")
	require.NoError(t, err)
	require.Same(t, tp, otel.GetTracerProvider())
	require.NoError(t, shutdown(t.Context()))

	t.Setenv("OTEL_TRACES_EXPORTER", "no-such")
	_, err = telemetry.Setup(t.Context(), "test", "one")
	require.Error(t, err)
	t.Setenv("FREEHOLD_LOG", "xml")
	_, err = telemetry.Setup(t.Context(), "test", "one")
	require.ErrorContains(t, err, "FREEHOLD_LOG")
}
