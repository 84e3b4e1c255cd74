package adminapi

import "github.com/gin-gonic/gin"

// Routes lists what the engine really serves.
func (a *API) Routes() gin.RoutesInfo { return a.engine.Routes() }

// VerbInfo is what a test may know of the table of verbs.
type VerbInfo struct {
	Method, Path, Action string
	Need                 Role
	Nodes, Unkeyed       bool
}

// Verbs is the table.
func Verbs() []VerbInfo {
	var list []VerbInfo
	for _, v := range verbs {
		list = append(list, VerbInfo{v.method, v.path, v.action, v.need, v.nodes, v.unkeyed})
	}
	return list
}

// Decode is the strict parser.
func Decode(body []byte, v any) error { return decode(body, v) }
