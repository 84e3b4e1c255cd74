package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

func setupLog(w io.Writer, service, name string) error {
	var level slog.Level
	if s := os.Getenv("FREEHOLD_LOG_LEVEL"); s != "" {
		if err := level.UnmarshalText([]byte(s)); err != nil {
			return fmt.Errorf("FREEHOLD_LOG_LEVEL: %w", err)
		}
	}
	var format string
	switch format = os.Getenv("FREEHOLD_LOG"); format {
	case "", "text", "json":
	default:
		return fmt.Errorf("FREEHOLD_LOG: %q: want text or json", format)
	}
	slog.SetDefault(slog.New(NewLogHandler(w, level, format == "json")).With("service", service, "name", name))
	return nil
}

// NewLogHandler returns the handler [Setup] installs. It adds the trace of the
// context to each line, and hides what looks like a secret: attributes named
// like one, passwords in URLs and DSNs, and tokens. That is a net under the
// rule that no secret is logged, not a replacement of it.
func NewLogHandler(w io.Writer, level slog.Leveler, json bool) slog.Handler {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	if json {
		return traced{slog.NewJSONHandler(w, opts)}
	}
	return traced{slog.NewTextHandler(w, opts)}
}

var (
	secretKey = regexp.MustCompile(`(?i)(passw|secret|token$|authorization|cookie|credential|private_?key)`)
	secretVal = regexp.MustCompile(`(://[^:/@\s]*:)[^@\s]*@|(?i:(password=)('[^']*'|\S+))|(\beyJ)[\w-]+\.[\w-]+\.[\w-]*`)
)

func redact(_ []string, a slog.Attr) slog.Attr {
	switch {
	case secretKey.MatchString(a.Key):
		a.Value = slog.StringValue("***")
	case a.Value.Kind() == slog.KindString:
		if s := a.Value.String(); suspicious(s) {
			a.Value = slog.StringValue(hide(s))
		}
	case a.Value.Kind() == slog.KindAny:
		if err, ok := a.Value.Any().(error); ok && suspicious(err.Error()) {
			a.Value = slog.StringValue(hide(err.Error()))
		}
	}
	return a
}

// suspicious is the cheap test before the regular expression.
func suspicious(s string) bool {
	return strings.Contains(s, "@") || strings.Contains(s, "eyJ") || strings.Contains(strings.ToLower(s), "password=")
}

func hide(s string) string {
	return secretVal.ReplaceAllStringFunc(s, func(m string) string {
		switch {
		case strings.HasPrefix(m, "://"):
			return m[:3+strings.IndexByte(m[3:], ':')+1] + "***@"
		case strings.HasPrefix(m, "eyJ"):
			return "eyJ***"
		default:
			return m[:len("password=")] + "***"
		}
	})
}

type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(as []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(as)} }
func (h traced) WithGroup(name string) slog.Handler    { return traced{h.Handler.WithGroup(name)} }
