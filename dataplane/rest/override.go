package rest

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// override is what the tenant's SQL set of the answer, by response.headers and
// response.status.
type override struct {
	headers []map[string]string
	status  int // 0 when not set
}

// override reads what was set.
func (out *outcome) override() (override, error) {
	if len(out.row[plan.ColumnHeaders]) == 0 && len(out.row[plan.ColumnStatus]) == 0 {
		return override{}, nil
	}
	return out.overridden()
}

func (out *outcome) overridden() (o override, err error) {
	if text := out.row[plan.ColumnHeaders]; len(text) > 0 {
		if json.Unmarshal(text, &o.headers) != nil {
			return o, pgrst.InvalidResponseHeaders()
		}
		for _, header := range o.headers {
			if len(header) != 1 {
				return o, pgrst.InvalidResponseHeaders()
			}
		}
	}
	if text := out.row[plan.ColumnStatus]; len(text) > 0 {
		o.status, err = strconv.Atoi(string(text))
		if err != nil || o.status < 200 || o.status > 599 {
			return o, pgrst.InvalidResponseStatus()
		}
	}
	return o, nil
}

// apply sets the headers, each in place of ours, and returns the status to answer with.
func (o override) apply(h http.Header, status int) int {
	set := map[string]bool{}
	for _, header := range o.headers {
		for name, value := range header {
			if name = http.CanonicalHeaderKey(name); fault.Framing(name) {
				continue
			}
			if !set[name] {
				h.Del(name)
			}
			set[name] = true
			h.Add(name, value)
		}
	}
	if o.status != 0 {
		return o.status
	}
	return status
}
