package adminapi

import (
	"time"

	"github.com/gin-gonic/gin"
)

// Routes lists what the engine really serves.
func (a *API) Routes() gin.RoutesInfo { return a.engine.Routes() }

// VerbInfo is what a test may know of the table of verbs.
type VerbInfo struct {
	Method, Path, Action string
	Need                 Role
	Nodes, Unkeyed       bool
	// Name is the operation's ID; Fleet and Own say what it is about.
	Name       string
	Fleet, Own bool
}

// Verbs is the table.
func Verbs() []VerbInfo {
	var list []VerbInfo
	names := operationIDs()
	for _, v := range verbs {
		list = append(list, VerbInfo{v.method, v.path, v.action, v.need, v.nodes, v.unkeyed, names[v.method+" "+v.path], v.fleet, v.own})
	}
	return list
}

// Decode is the strict parser.
func Decode(body []byte, v any) error { return decode(body, v) }

// Code is what a caller is told of an error.
func Code(err error) (status int, code string) {
	p := translate(err)
	return p.Status, p.Code
}

// StrangerBurst lets n unknown tokens in a row come from one address.
func (a *API) StrangerBurst(n int) {
	a.strangers.mu.Lock()
	defer a.strangers.mu.Unlock()
	a.strangers.burst = n
}

// Unforgiving has nobody's bounds on refusals grow again while a test runs.
func (a *API) Unforgiving() {
	a.strangers.mu.Lock()
	defer a.strangers.mu.Unlock()
	a.refusals.mu.Lock()
	defer a.refusals.mu.Unlock()
	a.strangers.every, a.refusals.every = time.Hour, time.Hour
}
