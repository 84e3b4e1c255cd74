package limit

import "sync/atomic"

// memory is what the bodies of requests may take of a node's: of all of them,
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

// Release gives back what p holds for its body.
func (l *Limiter) Release(p *Pass) {
	if p.held == 0 {
		return
	}
	l.bodies.held.Add(-p.held)
	p.tenant.held.Add(-p.held)
	p.held = 0
}
