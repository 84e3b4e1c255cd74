package limit

import "sync/atomic"

// memory is what the bodies of requests, or of answers, may take of a node's: of all of them,
// and of one tenant's. A tenant that is alone may have no more than its part,
// so that there is some left for who comes next.
type memory struct {
	most, each int64
	held       atomic.Int64
}

// Hold takes bytes of the node's memory for the body of p's request, which was
// admitted. What is held already stays so, whatever comes of it, until
// [Limiter.Release]. The error is a *[Refused].
func (l *Limiter) Hold(p *Pass, bytes int) error {
	n, t := int64(bytes), p.tenant
	reason := Reason("")
	if t.held.Add(n) > l.bodies.each {
		reason = TooManyConcurrent
	}
	if l.bodies.held.Add(n) > l.bodies.most && reason == "" {
		reason = Overloaded
	}
	if reason == "" {
		p.held += n
		return nil
	}
	t.held.Add(-n)
	l.bodies.held.Add(-n)
	t.giveBack()
	return &Refused{reason, jitter()}
}

// leastAnswer is what is not counted of answers: the system takes that much off our hands.
const leastAnswer = 64 << 10

// HoldAnswer notes the memory of p's answer, which is on its way to a client
// that may be slow to take it, until [Limiter.Release]. It is there already, so
// that nothing is refused here: the tenant's next requests are, in
// [Limiter.Enter], while its answers have taken all that they may.
func (l *Limiter) HoldAnswer(p *Pass, bytes int) {
	if n := int64(bytes); n >= leastAnswer {
		p.answer += n
		p.tenant.answers.Add(n)
		l.answers.held.Add(n)
	}
}

// drowned tells whether so much of a tenant's answers waits for its clients
// that no more may be made: its own part is used up, or the node's, and it has
// some of that. Who has none is not in for what others' clients do.
func (l *Limiter) drowned(t *tenant) bool {
	held := t.answers.Load()
	return held >= l.answers.each || held > 0 && l.answers.held.Load() >= l.answers.most
}

// Release gives back what p holds for its body and its answer.
func (l *Limiter) Release(p *Pass) {
	if p.held != 0 {
		l.bodies.held.Add(-p.held)
		p.tenant.held.Add(-p.held)
		p.held = 0
	}
	if p.answer != 0 {
		l.answers.held.Add(-p.answer)
		p.tenant.answers.Add(-p.answer)
		p.answer = 0
	}
}
