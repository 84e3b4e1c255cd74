package history

import (
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func at(call, ret int, o Op) Op {
	o.Call, o.Return = time.Duration(call), time.Duration(ret)
	return o
}

func read(found int64) Op             { return Op{Kind: Read, Found: found} }
func write(value int64) Op            { return Op{Kind: Write, New: value} }
func cas(old, value, found int64) Op  { return Op{Kind: CAS, Old: old, New: value, Found: found} }
func open(o Op) Op                    { o.Open = true; return o }
func ofTenant(tenant string, o Op) Op { o.Tenant = tenant; return o }

func TestHistoriesOfRegisters(t *testing.T) {
	for name, c := range map[string]struct {
		fine bool
		ops  []Op
	}{
		"nothing":                {true, nil},
		"one after the other":    {true, []Op{at(1, 2, read(0)), at(3, 4, write(7)), at(5, 6, read(7)), at(7, 8, cas(7, 8, 7)), at(9, 10, read(8))}},
		"side by side":           {true, []Op{at(1, 9, write(7)), at(2, 3, read(7)), at(4, 5, read(7))}},
		"a CAS that found other": {true, []Op{at(1, 2, write(7)), at(3, 4, cas(5, 8, 7)), at(5, 6, read(7))}},

		"a lost write":                    {false, []Op{at(1, 2, write(7)), at(3, 4, read(0))}},
		"a write lost at the end":         {false, []Op{at(1, 2, write(7)), at(3, 4, write(8)), at(5, 6, read(7))}},
		"a stale read":                    {false, []Op{at(1, 2, write(7)), at(3, 4, read(7)), at(5, 6, write(8)), at(7, 8, read(7))}},
		"read new, then old":              {false, []Op{at(1, 9, write(7)), at(2, 3, read(7)), at(4, 5, read(0))}},
		"a write done twice":              {false, []Op{at(1, 2, write(7)), at(3, 4, write(8)), at(5, 6, read(8)), at(7, 8, read(7))}},
		"two CAS that both won":           {false, []Op{at(1, 5, cas(0, 7, 0)), at(2, 6, cas(0, 8, 0))}},
		"a CAS acknowledged and not done": {false, []Op{at(1, 2, cas(0, 7, 0)), at(3, 4, read(0))}},
		"a value nobody wrote":            {false, []Op{at(1, 2, read(9))}},
		"read before it was written":      {false, []Op{at(1, 2, read(7)), at(3, 4, write(7))}},

		"unknown, and done":              {true, []Op{at(1, 0, open(write(7))), at(3, 4, read(7))}},
		"unknown, and not done":          {true, []Op{at(1, 0, open(write(7))), at(3, 4, read(0))}},
		"unknown, and done late":         {true, []Op{at(1, 0, open(write(7))), at(3, 4, read(0)), at(5, 6, read(7))}},
		"unknown, done, and lost":        {false, []Op{at(1, 0, open(write(7))), at(3, 4, read(7)), at(5, 6, read(0))}},
		"unknown, and done twice":        {false, []Op{at(1, 0, open(write(7))), at(3, 4, read(7)), at(5, 6, write(8)), at(7, 8, read(8)), at(9, 10, read(7))}},
		"unknown, seen before it began":  {false, []Op{at(1, 2, read(7)), at(3, 0, open(write(7)))}},
		"unknown CAS, done":              {true, []Op{at(1, 0, open(cas(0, 7, 0))), at(3, 4, read(7))}},
		"unknown CAS that could not win": {false, []Op{at(1, 2, write(5)), at(3, 0, open(cas(0, 7, 0))), at(4, 5, read(7))}},
		"unknown CAS upon an unknown write": {true,
			[]Op{at(1, 0, open(write(5))), at(2, 0, open(cas(5, 7, 0))), at(3, 4, read(7))}},
		"one tenant's is not the other's": {true, []Op{at(1, 2, ofTenant("a", write(7))), at(3, 4, ofTenant("b", read(0)))}},
		"one tenant sees the other's":     {false, []Op{at(1, 2, ofTenant("a", write(7))), at(3, 4, ofTenant("b", read(7)))}},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := Wrong(c.ops, time.Minute)
			require.Equal(t, c.fine, len(wrong) == 0, "%v", wrong)
		})
	}
}

// What is settled beforehand has the verdict that porcupine comes to by itself.
func TestSettlingChangesNoVerdict(t *testing.T) {
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		var ops []Op
		values := []int64{0}
		for i := range rapid.IntRange(1, 9).Draw(t, "ops") {
			value := int64(i + 1)
			known := rapid.SampledFrom(append(slices.Clone(values), value, value+1)) // some from the future
			o := Op{Kind: rapid.SampledFrom([]Kind{Read, Write, CAS}).Draw(t, "kind"), Open: rapid.Bool().Draw(t, "open")}
			o.Call = time.Duration(rapid.IntRange(4*i, 4*i+6).Draw(t, "call"))
			o.Return = o.Call + time.Duration(rapid.IntRange(1, 12).Draw(t, "took"))
			if o.Kind == Read {
				o.Open = false
			} else {
				o.New = value
				values = append(values, value)
			}
			if o.Kind == CAS {
				o.Old = known.Draw(t, "old")
			}
			if o.Kind != Write && !o.Open {
				o.Found = known.Draw(t, "found")
			}
			ops = append(ops, o)
		}
		want := porcupine.CheckOperations(model, operations(ops))
		verdicts[want]++
		require.Equal(t, want, len(Wrong(ops, time.Minute)) == 0, "%v", ops)
	})
	require.Positive(t, verdicts[true])
	require.Positive(t, verdicts[false])
}

// Hundreds of outcomes nobody knew are no burden.
func TestManyOpenOperations(t *testing.T) {
	var ops []Op
	for i := range 600 {
		v := int64(10*i + 1)
		ops = append(ops, at(10*i, 0, open(write(v+1))), at(10*i+1, 10*i+2, write(v)), at(10*i+3, 10*i+6, read(v)), at(10*i+4, 0, open(cas(v, v+2, 0))))
	}
	require.Empty(t, Wrong(ops, time.Minute))
	ops = append(ops, at(10_000, 10_001, read(1)))
	require.Len(t, Wrong(ops, time.Minute), 1)
}

func TestBookAndDatabases(t *testing.T) {
	e := Entry{ID: "1", Tenant: "a", Account: 1, Amount: 5}
	other := Entry{ID: "2", Tenant: "a", Account: 1, Amount: 7}
	var b Book
	for name, c := range map[string]struct {
		outcome Outcome
		found   []Found
		want    Audit
	}{
		"there once":              {Done, []Found{{"a", []Entry{e}, map[int64]int64{1: 5}}}, Audit{}},
		"lost":                    {Done, []Found{{"a", nil, map[int64]int64{1: 0}}}, Audit{Lost: 1}},
		"doubled":                 {Done, []Found{{"a", []Entry{e, e}, map[int64]int64{1: 10}}}, Audit{Doubled: 1}},
		"at two tenants":          {Done, []Found{{"a", []Entry{e}, nil}, {"b", []Entry{e}, nil}}, Audit{Doubled: 1, Crossed: 1}},
		"the row without balance": {Done, []Found{{"a", []Entry{e}, map[int64]int64{1: 0}}}, Audit{Torn: 1}},
		"balance without the row": {Done, []Found{{"a", nil, map[int64]int64{1: 5}}}, Audit{Lost: 1, Torn: 1}},
		"of another amount":       {Done, []Found{{"a", []Entry{{"1", "a", 1, 6}}, nil}}, Audit{Torn: 1}},
		"unknown, there":          {Unknown, []Found{{"a", []Entry{e}, map[int64]int64{1: 5}}}, Audit{Unknown: 1, UnknownDone: 1}},
		"unknown, not there":      {Unknown, []Found{{"a", nil, map[int64]int64{1: 0}}}, Audit{Unknown: 1}},
		"unknown, twice":          {Unknown, []Found{{"a", []Entry{e, e}, nil}}, Audit{Unknown: 1, UnknownDone: 1, Doubled: 1}},
		"refused, not there":      {Refused, []Found{{"a", nil, nil}}, Audit{}},
		"refused, there":          {Refused, []Found{{"a", []Entry{e}, nil}}, Audit{Ghosts: 1}},
		"never sent":              {Done, []Found{{"a", []Entry{e, other}, nil}}, Audit{Ghosts: 1}},
		"another tenant's row":    {Done, []Found{{"a", []Entry{e, {"3", "b", 1, 0}}, nil}}, Audit{Crossed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			b = Book{}
			b.Put(e, c.outcome)
			got := b.Audit(c.found)
			require.Len(t, got.Details, got.Faults(), "each fault has a line")
			got.Details, c.want.Transactions = nil, 1
			require.Equal(t, c.want, got)
		})
	}
}
