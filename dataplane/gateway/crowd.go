package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Crowd bounds the connections that are open at once: in all, and from one
// address. Whoever is one too many is hung up on, before a byte is read: a
// connection costs the node memory however little is asked over it. It is a
// [prometheus.Collector], and safe for concurrent use.
type Crowd struct {
	most, each int
	proxies    proxies // through whom anybody may come, so that each does not count
	refused    *prometheus.CounterVec
	gauge      prometheus.Gauge

	mu   sync.Mutex
	open int
	from map[netip.Prefix]int // only when each is bounded
}

// NewCrowd bounds connections to most, and those from one address (IPv6: a /64)
// to each, 0: to nothing; those from trusted proxies count for the first alone.
func NewCrowd(most, each int, trusted []string) (*Crowd, error) {
	p, err := parseProxies(trusted)
	if err != nil {
		return nil, fmt.Errorf("gateway: proxies: %w", err)
	}
	return &Crowd{
		most: most, each: each, proxies: p, from: map[netip.Prefix]int{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_http_connections_refused_total", Help: "Connections that were one too many, by whose bound.",
		}, []string{"bound"}),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "freehold_http_connections", Help: "Open connections of clients."}),
	}, nil
}

// Describe implements [prometheus.Collector].
func (c *Crowd) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements [prometheus.Collector].
func (c *Crowd) Collect(to chan<- prometheus.Metric) {
	c.gauge.Collect(to)
	c.refused.Collect(to)
}

// Listen hands out l's connections as long as there is room.
func (c *Crowd) Listen(l net.Listener) net.Listener { return crowdListener{l, c} }

type crowdListener struct {
	net.Listener
	crowd *Crowd
}

func (l crowdListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from, ok := l.crowd.enter(conn); ok {
			return &crowdConn{Conn: conn, crowd: l.crowd, from: from}, nil
		}
		_ = conn.Close()
	}
}

// enter counts a connection in, if there is room for it.
func (c *Crowd) enter(conn net.Conn) (from netip.Prefix, ok bool) {
	if peer, is := conn.RemoteAddr().(*net.TCPAddr); is && c.each > 0 {
		if a := peer.AddrPort().Addr().Unmap(); !c.proxies.include(a) {
			from = household(a)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open >= c.most:
		c.refused.WithLabelValues("all").Inc()
		return from, false
	case from.IsValid() && c.from[from] >= c.each:
		c.refused.WithLabelValues("address").Inc()
		return from, false
	}
	c.open++
	c.gauge.Set(float64(c.open))
	if from.IsValid() {
		c.from[from]++
	}
	return from, true
}

// household is what one client has of addresses.
func household(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // fails for more bits than there are
	return p
}

func (c *Crowd) leave(from netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.gauge.Set(float64(c.open))
	if !from.IsValid() {
		return
	}
	if c.from[from]--; c.from[from] == 0 {
		delete(c.from, from)
	}
}

type crowdConn struct {
	net.Conn
	crowd *Crowd
	from  netip.Prefix
	once  sync.Once
}

// Close makes room for another.
func (c *crowdConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.crowd.leave(c.from) })
	return err
}

// CloseWrite is there for those above who end their half first.
func (c *crowdConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
