package fair

import (
	"container/heap"
	"time"
)

// queue is a flow's waiting requests in order of arrival, linked through themselves.
type queue struct {
	front, back *Slot
	len         int
}

func (q *queue) push(s *Slot) {
	s.prev, s.next = q.back, nil
	if q.back == nil {
		q.front = s
	} else {
		q.back.next = s
	}
	q.back = s
	q.len++
}

func (q *queue) remove(s *Slot) {
	if s.prev == nil {
		q.front = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		q.back = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	q.len--
}

// standing tells whether f's queue has been long for long enough to be one that patience will not clear.
func (g *Gate) standing(f *Flow, now time.Duration) bool {
	if f.queue.len > 0 && now-f.queue.front.arrived < g.cfg.QueueTarget/shortPart {
		f.since = now
	}
	return f.queue.len > 0 && now-f.since > standingAfter
}

// shed refuses those of f who have waited longer than they may.
func (g *Gate) shed(f *Flow, now time.Duration) {
	for f.queue.len > 0 {
		patience := g.cfg.QueueFor
		if g.standing(f, now) {
			patience = min(patience, g.cfg.QueueTarget)
		}
		if oldest := f.queue.front; now-oldest.arrived > patience {
			g.drop(oldest)
			continue
		}
		return
	}
}

// drop refuses a request that waits.
func (g *Gate) drop(s *Slot) {
	g.counts.shed++
	s.flow.refused++
	err := g.refusal(s.flow)
	g.forget(s)
	s.granted <- err
}

// forget takes a request out of the queue.
func (g *Gate) forget(s *Slot) {
	g.unqueue(s)
	if f := s.flow; f.queue.len == 0 && f.index > 0 {
		g.line.remove(f)
	}
}

func (g *Gate) unqueue(s *Slot) {
	f := s.flow
	f.queue.remove(s)
	g.waiting--
	if f.queue.len == 0 {
		delete(g.backlog, f)
	}
}

// room tells whether one more of f may wait. Where only the bound of all is in
// the way and f has less than its part of that, the oldest of the longest queue
// makes room.
func (g *Gate) room(f *Flow) bool {
	if f.queue.len >= g.cfg.WaitingPerTenant {
		return false
	}
	if g.waiting < g.cfg.Waiting {
		return true
	}
	if f.queue.len >= g.cfg.Waiting/(len(g.backlog)+1) {
		return false
	}
	var longest *Flow
	for other := range g.backlog {
		if longest == nil || float64(other.queue.len)/other.weight() > float64(longest.queue.len)/longest.weight() {
			longest = other
		}
	}
	if longest == nil || longest == f || longest.queue.len <= f.queue.len+1 {
		return false
	}
	g.drop(longest.queue.front)
	return true
}

// line is a heap of flows by start tag.
type line []*Flow

func (l line) Len() int           { return len(l) }
func (l line) Less(i, j int) bool { return l[i].start < l[j].start }
func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i+1, j+1
}

// Push and Pop implement [heap.Interface].
func (l *line) Push(x any) {
	f := x.(*Flow) //nolint:errcheck // put is the only caller
	f.index = len(*l) + 1
	*l = append(*l, f)
}

// Pop implements [heap.Interface].
func (l *line) Pop() any {
	last := len(*l) - 1
	f := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	f.index = 0
	return f
}

// put adds f, or moves it to where its start tag belongs now.
func (l *line) put(f *Flow) {
	if f.index > 0 {
		heap.Fix(l, f.index-1)
		return
	}
	heap.Push(l, f)
}

func (l *line) pop() *Flow     { return heap.Pop(l).(*Flow) }
func (l *line) remove(f *Flow) { heap.Remove(l, f.index-1) }
