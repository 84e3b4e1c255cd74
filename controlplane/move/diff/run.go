package diff

import "context"

// Extent is how much there is to compare.
type Extent struct {
	Tables int
	Bytes  int64 // on disk
}

// Step tells where the comparison is after each range.
type Step struct {
	Table string // under way
	// Share of all tables' bytes that is done, 0 to 1, and how many tables are.
	Share  float64
	Tables int
	Of     Extent
}

// Rows compares all tables from where p is. After each range, with p telling
// how far it is, it calls step, whose error ends it: p can be kept, and Rows
// called again with it. Errors: [ErrNoBarrier].
func (c *Comparison) Rows(ctx context.Context, p *Progress, step func(Step) error) error {
	serving, err := tables(ctx, c.serving)
	if err != nil {
		return err
	}
	there, err := tables(ctx, c.follower)
	if err != nil {
		return err
	}
	at := map[string]table{}
	for _, t := range there {
		at[t.ident()] = t
	}
	var of Extent
	for _, t := range serving {
		of.Tables++
		of.Bytes += t.bytes
	}
	var done int64
	for i, t := range serving {
		if t.before(p.Table) || t.ident() == p.Table && p.Range < 0 { // by an earlier run
			done += t.bytes
			continue
		}
		if p.Table != t.ident() {
			*p = Progress{Table: t.ident(), Found: Table{Name: t.ident()}, Tables: p.Tables, Rows: p.Rows, Bytes: p.Bytes, Differ: p.Differ, Listed: p.Listed}
		}
		tell := func(within float64) error {
			s := Step{Table: t.ident(), Tables: i, Of: of}
			if of.Bytes > 0 {
				s.Share = (float64(done) + within*float64(t.bytes)) / float64(of.Bytes)
			}
			return step(s)
		}
		o, both := at[t.ident()]
		switch {
		case !both:
			p.Found.Note = "it is not at the following side"
		case t.differs(o) != "":
			p.Found.Note = t.differs(o)
		case t.ordered(o):
			if err := c.ranges(ctx, t, p, tell); err != nil {
				return err
			}
		default:
			if err := c.multiset(ctx, t, p); err != nil {
				return err
			}
		}
		p.Tables++
		if p.Found.Differs() {
			if p.Listed += len(p.Found.Rows); p.Listed > listedInAll {
				p.Found.Rows = nil
			}
			p.Differ = append(p.Differ, p.Found)
		}
		p.Range = -1
		done += t.bytes
		if err := tell(0); err != nil {
			return err
		}
	}
	return nil
}

// before tells whether the table comes before the one of that name, in the order in which tables are compared.
func (t table) before(name string) bool { return name != "" && t.ident() < name }

func (c *Comparison) ranges(ctx context.Context, t table, p *Progress, tell func(within float64) error) error {
	k, n := c.keyed(t), firstRows
	for {
		done, took, err := k.next(ctx, p, n)
		if err != nil || done {
			return err
		}
		switch {
		case took > 2*rangeFor:
			n = max(n/2, leastRows)
		case took > 0 && took < rangeFor/2:
			n = min(2*n, mostRows)
		}
		within := 0.0
		if t.bytes > 0 {
			within = min(float64(p.TableRows)*float64(p.Bytes)/float64(max(p.Rows, 1))/float64(t.bytes), 0.99)
		}
		if err := tell(within); err != nil {
			return err
		}
	}
}
