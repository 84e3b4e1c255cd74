package adminapi

import (
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by route, never by tenant: a label's every value is
// a time series for ever.
type metrics struct {
	seconds *prometheus.HistogramVec
	streams prometheus.GaugeFunc
}

func newMetrics(r prometheus.Registerer, streams func() float64) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "freehold_admin_request_seconds", Help: "Requests of the admin API and how long they took; streams last as long as their operation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"method", "route", "status"}),
		streams: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freehold_admin_watchers", Help: "Streams of operations being watched.",
		}, streams),
	}
	r.MustRegister(m.seconds, m.streams)
	return m
}

func (m *metrics) observe(c *gin.Context) {
	began := time.Now()
	c.Next()
	route, method := c.FullPath(), c.Request.Method
	if route == "" { // strangers choose paths and methods freely
		route, method = "none", "none"
	}
	m.seconds.WithLabelValues(method, route, strconv.Itoa(c.Writer.Status())).Observe(time.Since(began).Seconds())
}
