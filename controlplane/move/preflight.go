package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// preflight finds what could break and touches nothing.
func (s *Service) preflight(ctx context.Context, r *run) error {
	start := time.Now()
	found, size, err := s.look(ctx, r)
	if err != nil {
		return err
	}
	r.Data.Receipt = newReceipt(r, size)
	refused, waits, warnings := survey.Levels(found)
	if len(refused) > 0 {
		return operation.Permanent(&RefusedError{refused})
	}
	if len(waits) > 0 {
		return operation.Wait(2*time.Second, waits[0].String())
	}
	r.Data.Receipt.Warnings = warnings
	r.Data.Receipt.phase("preflight", start)
	return r.SetReceipt(r.Data.Receipt)
}

func newReceipt(r *run, size extent) Receipt {
	return Receipt{Tenant: r.Data.Tenant, From: r.Data.From.Shard, To: r.Data.To, Database: r.Data.database(),
		MaxPauseMS: ms(r.Data.MaxPause), Tables: size.tables, Bytes: size.bytes, Attempts: []Attempt{},
		Verification: Verification{Copy: NotVerified, Final: NotVerified}}
}

func (s *Service) checkPreflight(ctx context.Context, r *run) (string, error) {
	found, size, err := s.look(ctx, r)
	if err != nil {
		return "", err
	}
	r.Data.Receipt.Bytes, r.Data.Receipt.Tables = size.bytes, size.tables
	refused, waits, warnings := survey.Levels(found)
	if len(refused) > 0 {
		return "", &RefusedError{refused}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "nothing stands in the way of moving %d tables of %.1f MB from %s to %s", size.tables, float64(size.bytes)/1e6, r.Data.From.Shard, r.Data.To)
	for _, f := range waits {
		b.WriteString("; would wait: " + f.String())
	}
	for _, f := range warnings {
		b.WriteString("; note: " + f.String())
	}
	return b.String(), nil
}

type extent struct {
	tables int
	bytes  int64
}

// look reads both ends. What the catalog refuses is an error at once; what the
// servers show is a list, so that people see all of it.
func (s *Service) look(ctx context.Context, r *run) ([]survey.Finding, extent, error) {
	placement, _, err := s.endpoints(ctx, r.Data.Request)
	if err != nil {
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
			err = operation.Permanent(err)
		}
		return nil, extent{}, err
	}
	r.Data.From, r.Data.Link = placement, linkName(r.Op)
	if r.Data.Soak > 0 {
		r.Data.Back = backName(r.Op)
	}
	found, err := s.lookAtTarget(ctx, r)
	if err != nil {
		return nil, extent{}, err
	}
	inside, size, err := s.lookInside(ctx, r)
	if err != nil {
		return nil, extent{}, err
	}
	found = append(append(found, inside...), s.lookAtLinks(ctx, r)...)
	for i, on := range []shardmap.ShardID{placement.Shard, r.Data.To} {
		console, err := s.fleet.Console(ctx, on)
		if err != nil {
			found = append(found, survey.Finding{Level: survey.Wait, Code: "pgbouncer", Object: string(on),
				Reason: "the " + []string{"source", "target"}[i] + "'s PgBouncer can't be reached: " + err.Error()})
			continue
		}
		console.Close()
	}
	return found, size, nil
}

// lookAtTarget finds out whether the name is free there.
func (s *Service) lookAtTarget(ctx context.Context, r *run) ([]survey.Finding, error) {
	db, err := s.store.GetDatabase(ctx, r.Data.To, r.Data.database())
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case db.State == catalog.DatabaseRetired || db.State == catalog.DatabaseDropping || db.State == catalog.DatabaseTarget:
		return nil, nil // what an earlier move left; it is replaced
	default:
		return []survey.Finding{{Level: survey.Refuse, Code: "name-taken", Object: db.Name,
			Reason: fmt.Sprintf("the target has a database of that name, %s", db.State), Remedy: "choose another shard"}}, nil
	}
}

// lookAtLinks finds out whether those who will follow the other side can verify
// it. A shard that was registered before there was TLS may not; it would be
// found out only after the copy.
func (s *Service) lookAtLinks(ctx context.Context, r *run) (found []survey.Finding) {
	links := [][2]shardmap.ShardID{{r.Data.To, r.Data.From.Shard}}
	if r.Data.Soak > 0 {
		links = append(links, [2]shardmap.ShardID{r.Data.From.Shard, r.Data.To})
	}
	for _, l := range links {
		if _, err := s.fleet.AdminConninfo(ctx, l[0], l[1], r.Data.database()); errors.Is(err, shard.ErrUnfit) {
			found = append(found, survey.Finding{Level: survey.Refuse, Code: "tls-files", Object: string(l[0]),
				Reason: "its Postgres can't verify " + string(l[1]) + "'s", Remedy: "`shard add` it again, with --postgres-tls-dir"})
		}
	}
	return found
}

// lookInside asks both servers.
func (s *Service) lookInside(ctx context.Context, r *run) ([]survey.Finding, extent, error) {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return nil, extent{}, err
	}
	defer closeConn(src)
	dst, err := s.connect(ctx, r.Data.To, maintenance)
	if err != nil {
		return nil, extent{}, err
	}
	defer closeConn(dst)
	here, err := survey.ReadServer(ctx, src, r.Data.database())
	if err != nil {
		return nil, extent{}, err
	}
	there, err := survey.ReadServer(ctx, dst, shard.TemplateBase)
	if err != nil {
		return nil, extent{}, err
	}
	found := survey.Between(here, there)
	if r.Data.Soak > 0 {
		found = append(found, survey.Back(there, here)...)
	}
	_, err = s.tools.For(ctx, here.Version/10000, there.Version/10000)
	switch older := there.Version/10000 < here.Version/10000; {
	case errors.Is(err, schema.ErrNoTools) && !older: // that the target is older is said already
		found = append(found, survey.Finding{Level: survey.Refuse, Code: "tools", Reason: err.Error()})
	case err != nil && !errors.Is(err, schema.ErrNoTools):
		return nil, extent{}, err
	}
	inside, err := survey.Inside(ctx, src, r.Data.Link)
	if err != nil {
		return nil, extent{}, err
	}
	tables, err := survey.Tables(ctx, src)
	if err != nil {
		return nil, extent{}, err
	}
	sequences, err := survey.Sequences(ctx, src)
	if err != nil {
		return nil, extent{}, err
	}
	extensions, err := survey.Extensions(ctx, src)
	if err != nil {
		return nil, extent{}, err
	}
	missing, err := survey.Missing(ctx, dst, extensions)
	if err != nil {
		return nil, extent{}, err
	}
	size := extent{tables: len(tables)}
	for _, t := range tables {
		size.bytes += t.Bytes
	}
	found = append(found, inside...)
	found = append(found, survey.Identities(tables)...)
	found = append(found, survey.Locks(here, size.tables+len(sequences))...)
	return append(found, missing...), size, nil
}
