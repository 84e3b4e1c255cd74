package balance

// Refuses tells which constraint of the needs the shard's own properties break
// (region, class, labels), and how; "" if none.
func (n *Needs) Refuses(s *Shard) (by Constraint, detail string) { return n.refuses(s) }
