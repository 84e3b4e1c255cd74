package diff

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pg"
)

// Object is something beside rows that is not the same at both sides.
type Object struct {
	// Kind is in a person's words: "index", "grant", "sequence position" …; with Name it says what differs.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Serving and Follower are what it is there, clipped; nil: it is not there.
	Serving  *string `json:"serving"`
	Follower *string `json:"follower"`
}

func (o Object) String() string {
	switch {
	case o.Serving == nil:
		return fmt.Sprintf("%s %s is at the following side only", o.Kind, o.Name)
	case o.Follower == nil:
		return fmt.Sprintf("%s %s is not at the following side", o.Kind, o.Name)
	}
	return fmt.Sprintf("%s %s is %s at the serving side and %s at the following", o.Kind, o.Name, *o.Serving, *o.Follower)
}

//go:embed objects.sql
var objectsSQL string

type objectID struct{ kind, name string }

func objects(ctx context.Context, conn *pgx.Conn) (map[objectID]string, error) {
	rows, err := conn.Query(ctx, objectsSQL, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	found := map[objectID]string{}
	var id objectID
	var def *string
	if _, err := pgx.ForEachRow(rows, []any{&id.kind, &id.name, &def}, func() error {
		found[id] = ""
		if def != nil {
			found[id] = *def
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return found, nil
}

// byVersion are kinds whose text is Postgres' own, and another in another
// major version: there only whether they are at both sides is compared. So are
// extensions, of which each brings its own versions.
var byVersion = []string{"extension", "view definition", "function", "rule", "trigger", "index", "constraint", "policy", "statistics"}

// Objects compares everything of the databases but rows: schemas, extensions,
// tables, columns, indexes, constraints, triggers, policies, sequences, types,
// functions, grants, comments, settings, roles and their like. The platform's
// own schema and what belongs to a move are left out. A sequence differs if the
// following side's is past the serving side's: it gets its position at the
// cutover, and until then may be behind.
func (c *Comparison) Objects(ctx context.Context) ([]Object, error) {
	return compareObjects(ctx, c.mark, c.seen)
}

// Objects is [Comparison.Objects] over two connections of the caller's, with an
// empty search_path.
func Objects(ctx context.Context, serving, follower *pgx.Conn) ([]Object, error) {
	for _, conn := range []*pgx.Conn{serving, follower} {
		if _, err := conn.Exec(ctx, "SET lc_messages = 'C'", pgx.QueryExecModeSimpleProtocol); err != nil { // names of objects are in the server's language
			return nil, fmt.Errorf("compare objects: %w", err)
		}
	}
	return compareObjects(ctx, serving, follower)
}

func compareObjects(ctx context.Context, serving, follower *pgx.Conn) ([]Object, error) {
	there, err := objects(ctx, follower)
	if err != nil {
		return nil, err
	}
	here, err := objects(ctx, serving)
	if err != nil {
		return nil, err
	}
	sameMajor := pg.Major(serving) == pg.Major(follower)
	var differ []Object
	for id, def := range here {
		other, both := there[id]
		switch {
		case !both && !sameMajor && strings.HasPrefix(id.name, "MAINTAIN on "): // older versions know no such privilege
		case !both:
			differ = append(differ, Object{Kind: id.kind, Name: id.name, Serving: clipped(def)})
		case def != other && (sameMajor || !slices.Contains(byVersion, id.kind)):
			differ = append(differ, Object{Kind: id.kind, Name: id.name, Serving: clipped(def), Follower: clipped(other)})
		}
	}
	for id, def := range there {
		if _, both := here[id]; !both && (sameMajor || !strings.HasPrefix(id.name, "MAINTAIN on ")) {
			differ = append(differ, Object{Kind: id.kind, Name: id.name, Follower: clipped(def)})
		}
	}
	positions, err := sequencePositions(ctx, serving, follower)
	if err != nil {
		return nil, err
	}
	differ = append(differ, positions...)
	slices.SortFunc(differ, func(a, b Object) int { return strings.Compare(a.Kind+"\x00"+a.Name, b.Kind+"\x00"+b.Name) })
	return differ, nil
}

func clipped(s string) *string {
	s = clip(s)
	return &s
}

// position is what a sequence gives next.
type position struct {
	next       int64
	descending bool
}

// sequencePositions reads the following side first: the other only goes on.
func sequencePositions(ctx context.Context, serving, follower *pgx.Conn) ([]Object, error) {
	there, err := positions(ctx, follower)
	if err != nil {
		return nil, err
	}
	here, err := positions(ctx, serving)
	if err != nil {
		return nil, err
	}
	var differ []Object
	for name, f := range there {
		s, both := here[name]
		if both && (f.next > s.next) != f.descending && f.next != s.next {
			differ = append(differ, Object{Kind: "sequence position", Name: name, Serving: clipped(fmt.Sprint(s.next)), Follower: clipped(fmt.Sprint(f.next))})
		}
	}
	return differ, nil
}

func positions(ctx context.Context, conn *pgx.Conn) (map[string]position, error) {
	seqs, err := survey.Sequences(ctx, conn)
	if err != nil {
		return nil, err
	}
	increments := map[string]int64{}
	rows, err := conn.Query(ctx, `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), CASE WHEN s.seqcycle THEN 0 ELSE s.seqincrement END
		FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`)
	if err != nil {
		return nil, fmt.Errorf("list sequences: %w", err)
	}
	var name string
	var by int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &by}, func() error { increments[name] = by; return nil }); err != nil {
		return nil, fmt.Errorf("list sequences: %w", err)
	}
	found := map[string]position{}
	rows, err = conn.Query(ctx, survey.SequencesSQL(seqs), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	var i int
	var last int64
	var called bool
	if _, err := pgx.ForEachRow(rows, []any{&i, &last, &called}, func() error {
		by := increments[seqs[i].Name]
		if by == 0 {
			return nil // one that begins again is past nothing
		}
		if called {
			last += by
		}
		found[seqs[i].Name] = position{next: last, descending: by < 0}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	return found, nil
}
