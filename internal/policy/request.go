package policy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/freehold-db/freehold/shardmap"
)

// What policies speak of.
const (
	typeUser, typeKey, typeRole, typeTenant    = "User", "Key", "Role", "Tenant"
	typeAction                                 = "Action"
	typeTable, typeFunction, typeSQL, typeRoot = "Table", "Function", "SQL", "Root"
	typeSchema                                 = "Schema"
)

var (
	entityTypes = []string{typeUser, typeKey, typeRole, typeTenant, typeAction, typeTable, typeFunction, typeSQL, typeRoot, typeSchema}
	methods     = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
	actions     = append([]string{"read", "write", "call", "sql"}, methods...)
)

// Kind is what a request is for.
type Kind string

// The kinds of resources: a table or view, a function, arbitrary SQL, the description of a schema.
const (
	Table    Kind = typeTable
	Function Kind = typeFunction
	SQL      Kind = typeSQL
	Root     Kind = typeRoot
)

// Principal is who asks, as policies see it.
type Principal struct{ entity cedar.Entity }

// Who describes a principal.
type Who struct {
	Tenant shardmap.TenantID
	// Subject is the token's sub or, of an API key, its ID.
	Subject string
	// Key tells that it is an API key.
	Key         bool
	Role        string
	Permissions []string
	Issuer      string
	// Claims is the token's payload, a JSON object; empty: none.
	Claims []byte
}

// NewPrincipal makes a principal. It can be used for any number of requests.
func NewPrincipal(w Who) Principal {
	kind := cedar.EntityType(typeUser)
	if w.Key {
		kind = typeKey
	}
	permissions := make([]cedar.Value, len(w.Permissions))
	for i, p := range w.Permissions {
		permissions[i] = cedar.String(p)
	}
	return Principal{cedar.Entity{
		UID: cedar.NewEntityUID(kind, cedar.String(w.Subject)),
		Parents: cedar.NewEntityUIDSet(cedar.NewEntityUID(typeRole, cedar.String(w.Role)),
			cedar.NewEntityUID(typeTenant, cedar.String(w.Tenant))),
		Attributes: cedar.NewRecord(cedar.RecordMap{
			"tenant": cedar.String(w.Tenant), "subject": cedar.String(w.Subject), "role": cedar.String(w.Role), "issuer": cedar.String(w.Issuer),
			"permissions": cedar.NewSet(permissions...), "claims": claims(w.Claims),
		}),
	}}
}

// What describes a resource, and what is to be done with it.
type What struct {
	Tenant shardmap.TenantID
	Method string
	Kind   Kind
	Schema string
	// Name of the table or function; empty of others.
	Name string
}

// Context is what a request comes with.
type Context struct {
	// Attributes are the tenant's.
	Attributes map[string]string
	IP         netip.Addr
	Time       time.Time
	// Headers by their lower-case names; see [Headers].
	Headers map[string]string
}

// Headers are those that policies see: none of them is a credential, and any
// client can send what it likes in them.
var Headers = []string{"user-agent", "origin", "referer", "x-client-info", "accept", "content-type", "prefer"}

// Request is a request as Cedar sees it.
type Request struct {
	principal, action, resource cedar.Entity
	context                     cedar.Record
}

// NewRequest puts a request together.
func NewRequest(who Principal, what What, with Context) *Request {
	name := what.Name
	if what.Schema != "" {
		name = strings.TrimSuffix(what.Schema+"."+name, ".")
	}
	kind := what.Kind
	r := &Request{
		principal: who.entity,
		action:    cedar.Entity{UID: cedar.NewEntityUID(typeAction, cedar.String(what.Method)), Parents: groups(kind, what.Method)},
		resource: cedar.Entity{
			UID:     cedar.NewEntityUID(cedar.EntityType(kind), cedar.String(name)),
			Parents: cedar.NewEntityUIDSet(cedar.NewEntityUID(typeSchema, cedar.String(what.Schema)), cedar.NewEntityUID(typeTenant, cedar.String(what.Tenant))),
			Attributes: cedar.NewRecord(cedar.RecordMap{
				"tenant": cedar.String(what.Tenant), "kind": cedar.String(strings.ToLower(string(kind))),
				"schema": cedar.String(what.Schema), "name": cedar.String(what.Name),
			}),
		},
	}
	context := cedar.RecordMap{"attributes": texts(with.Attributes), "headers": texts(with.Headers), "time": cedar.NewDatetime(with.Time)}
	if with.IP.IsValid() {
		ip := with.IP.Unmap().WithZone("")
		context["ip"] = cedar.IPAddr(netip.PrefixFrom(ip, ip.BitLen()))
	}
	r.context = cedar.NewRecord(context)
	return r
}

// Get finds one of the request's entities.
func (r *Request) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case r.principal.UID:
		return r.principal, true
	case r.action.UID:
		return r.action, true
	case r.resource.UID:
		return r.resource, true
	}
	return cedar.Entity{}, false
}

var (
	readGroup  = group("read")
	writeGroup = group("write")
	callGroup  = group("call")
	sqlGroup   = group("sql")
	callRead   = group("call", "read")
)

func group(names ...string) cedar.EntityUIDSet {
	uids := make([]cedar.EntityUID, len(names))
	for i, n := range names {
		uids[i] = cedar.NewEntityUID(typeAction, cedar.String(n))
	}
	return cedar.NewEntityUIDSet(uids...)
}

// groups are the actions that a method on a kind is one of. A function called
// by GET runs in a transaction that only reads.
func groups(kind Kind, method string) cedar.EntityUIDSet {
	reads := method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
	switch {
	case kind == SQL:
		return sqlGroup
	case kind == Function && reads:
		return callRead
	case kind == Function:
		return callGroup
	case reads:
		return readGroup
	}
	return writeGroup
}

// KnownMethod tells whether policies have a word for the method.
func KnownMethod(method string) bool { return slices.Contains(methods, method) }

func texts(m map[string]string) cedar.Record {
	r := make(cedar.RecordMap, len(m))
	for k, v := range m {
		r[cedar.String(k)] = cedar.String(v)
	}
	return cedar.NewRecord(r)
}

// claims makes a record of a token's payload. What Cedar has no value for is
// left out: null, and numbers that are no 64-bit integers.
func claims(payload []byte) cedar.Record {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var m map[string]any
	if len(payload) == 0 || dec.Decode(&m) != nil {
		return cedar.NewRecord(nil)
	}
	r, _ := value(m).(cedar.Record)
	return r
}

func value(v any) cedar.Value {
	switch v := v.(type) {
	case bool:
		return cedar.Boolean(v)
	case string:
		return cedar.String(v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return cedar.Long(n)
		}
	case []any:
		list := make([]cedar.Value, 0, len(v))
		for _, item := range v {
			if x := value(item); x != nil {
				list = append(list, x)
			}
		}
		return cedar.NewSet(list...)
	case map[string]any:
		r := make(cedar.RecordMap, len(v))
		for name, item := range v {
			if x := value(item); x != nil {
				r[cedar.String(name)] = x
			}
		}
		return cedar.NewRecord(r)
	}
	return nil
}
