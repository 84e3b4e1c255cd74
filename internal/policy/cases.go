package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Suite is policies with cases that tell what they are to decide.
type Suite struct {
	// Fleet and Tenant are the policies, of the fleet and of the tenant that the cases are about.
	Fleet  []SuitePolicy `yaml:"fleet"`
	Tenant []SuitePolicy `yaml:"tenant"`
	Cases  []Case        `yaml:"cases"`

	fleet, tenant *Set
}

// SuitePolicy is a policy with its text, or the file that has it.
type SuitePolicy struct {
	Name string `yaml:"name"`
	Text string `yaml:"text"`
	File string `yaml:"file"`
}

// Case is one request and what is to become of it.
type Case struct {
	Name      string    `yaml:"name"`
	Principal suiteWho  `yaml:"principal"`
	Request   suiteWhat `yaml:"request"`
	// Attributes of the tenant, IP of the client, Time of the request (default: now), Headers by lower-case names.
	Attributes map[string]string `yaml:"attributes"`
	IP         string            `yaml:"ip"`
	Time       time.Time         `yaml:"time"`
	Headers    map[string]string `yaml:"headers"`
	// Expect is allow or deny; By, of a denial, the policies that are to be the reason.
	Expect string   `yaml:"expect"`
	By     []string `yaml:"by"`
}

type suiteWho struct {
	Tenant      string         `yaml:"tenant"`
	Subject     string         `yaml:"subject"`
	Key         string         `yaml:"key"`
	Role        string         `yaml:"role"`
	Permissions []string       `yaml:"permissions"`
	Issuer      string         `yaml:"issuer"`
	Claims      map[string]any `yaml:"claims"`
}

type suiteWhat struct {
	Tenant   string `yaml:"tenant"`
	Method   string `yaml:"method"`
	Schema   string `yaml:"schema"`
	Table    string `yaml:"table"`
	Function string `yaml:"function"`
	SQL      bool   `yaml:"sql"`
	Root     bool   `yaml:"root"`
}

// Result is what became of a case.
type Result struct {
	Case     Case
	Decision Decision
	// Fault says how the decision differs from what was expected; empty: it does not.
	Fault string
}

// ReadSuite reads a suite, a YAML or JSON document, and compiles its policies.
// readFile gives the text of the files that they name. The error says where it is wrong.
func ReadSuite(document []byte, readFile func(name string) ([]byte, error)) (*Suite, error) {
	dec := yaml.NewDecoder(bytes.NewReader(document))
	dec.KnownFields(true)
	var s Suite
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var err error
	if s.fleet, err = compileSuite("fleet", s.Fleet, readFile); err != nil {
		return nil, err
	}
	if s.tenant, err = compileSuite("tenant", s.Tenant, readFile); err != nil {
		return nil, err
	}
	if len(s.Cases) == 0 {
		return nil, errors.New("there are no cases")
	}
	for i := range s.Cases {
		if _, err := s.Cases[i].requests(); err != nil {
			return nil, fmt.Errorf("case %s: %w", s.Cases[i].called(i), err)
		}
	}
	return &s, nil
}

func compileSuite(whose string, list []SuitePolicy, readFile func(string) ([]byte, error)) (*Set, error) {
	var policies []access.Policy
	for _, p := range list {
		text := p.Text
		if p.File != "" {
			if text != "" {
				return nil, fmt.Errorf("%s policy %s has a text and a file", whose, p.Name)
			}
			b, err := readFile(p.File)
			if err != nil {
				return nil, fmt.Errorf("%s policy %s: %w", whose, p.Name, err)
			}
			text = string(b)
		}
		one := access.Policy{Name: p.Name, Text: text}
		if err := one.Validate(); err != nil {
			return nil, fmt.Errorf("of the %s: %w", whose, err)
		}
		policies = append(policies, one)
	}
	set, err := Compile(policies)
	if err != nil {
		return nil, fmt.Errorf("of the %s: %w", whose, err)
	}
	return set, nil
}

// Run judges every case.
func (s *Suite) Run() []Result {
	results := make([]Result, len(s.Cases))
	for i, c := range s.Cases {
		c.Name = c.called(i)
		asked, err := c.requests()
		if err != nil { // ReadSuite has looked
			results[i] = Result{Case: c, Fault: err.Error()}
			continue
		}
		var d Decision
		for _, r := range asked {
			if d = Judge(r, s.fleet, s.tenant); !d.Allowed {
				break
			}
		}
		results[i] = Result{Case: c, Decision: d, Fault: c.differs(d)}
	}
	return results
}

func (c *Case) called(i int) string {
	if c.Name != "" {
		return c.Name
	}
	return fmt.Sprintf("%d", i+1)
}

func (c *Case) differs(d Decision) string {
	got := "deny"
	if d.Allowed {
		got = "allow"
	}
	switch {
	case got != c.Expect && len(d.Policies) > 0:
		return "denied by " + strings.Join(d.Policies, ", ")
	case got != c.Expect && !d.Allowed:
		return "denied: no policy permits it"
	case got != c.Expect:
		return "allowed"
	case len(c.By) > 0 && !slices.Equal(slices.Sorted(slices.Values(c.By)), d.Policies):
		return "denied by " + strings.Join(d.Policies, ", ") + ", not by " + strings.Join(c.By, ", ")
	}
	return ""
}

const suiteTenant = "example"

// requests are what a node would ask about the case's one.
func (c *Case) requests() ([]*Request, error) {
	if c.Expect != "allow" && c.Expect != "deny" {
		return nil, fmt.Errorf("expect: %q: want allow or deny", c.Expect)
	}
	if len(c.By) > 0 && c.Expect != "deny" {
		return nil, errors.New("by: names who denies it, but it is expected to be allowed")
	}
	who, err := c.Principal.principal()
	if err != nil {
		return nil, fmt.Errorf("principal: %w", err)
	}
	what, err := c.Request.what()
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	with := Context{Attributes: c.Attributes, Time: c.Time, Headers: c.Headers}
	if with.Time.IsZero() {
		with.Time = time.Now()
	}
	if c.IP != "" {
		if with.IP, err = netip.ParseAddr(c.IP); err != nil {
			return nil, fmt.Errorf("ip: %w", err)
		}
	}
	for name := range c.Headers {
		if !slices.Contains(Headers, name) {
			return nil, fmt.Errorf("headers: %q: policies see %s only", name, strings.Join(Headers, ", "))
		}
	}
	asked := []*Request{NewRequest(who, what, with)}
	if what.Kind == Table && showsRows(c.Headers["prefer"]) {
		what.Method = http.MethodGet
		asked = append(asked, NewRequest(who, what, with))
	}
	return asked, nil
}

// showsRows tells whether a write with that Prefer (a read has its rows anyway) answers with what it wrote: of
// several preferences for that, the first counts.
func showsRows(prefer string) bool {
	for preference := range strings.SplitSeq(prefer, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(preference), "return="); ok {
			return value == "representation"
		}
	}
	return false
}

func (w suiteWho) principal() (Principal, error) {
	if w.Tenant == "" {
		w.Tenant = suiteTenant
	}
	if err := access.CheckRole(w.Role); err != nil {
		return Principal{}, err
	}
	who := Who{Tenant: shardmap.TenantID(w.Tenant), Subject: w.Subject, Role: w.Role, Permissions: w.Permissions, Issuer: w.Issuer}
	if w.Key != "" {
		who.Key, who.Subject = true, w.Key
	}
	if w.Claims != nil {
		var err error
		if who.Claims, err = json.Marshal(w.Claims); err != nil {
			return Principal{}, fmt.Errorf("claims: %w", err)
		}
	}
	return NewPrincipal(who), nil
}

func (w suiteWhat) what() (What, error) {
	if w.Tenant == "" {
		w.Tenant = suiteTenant
	}
	what := What{Tenant: shardmap.TenantID(w.Tenant), Method: strings.ToUpper(w.Method), Schema: w.Schema}
	kinds := 0
	if w.Table != "" {
		kinds, what.Kind, what.Name = kinds+1, Table, w.Table
	}
	if w.Function != "" {
		kinds, what.Kind, what.Name = kinds+1, Function, w.Function
	}
	if w.SQL {
		kinds, what.Kind = kinds+1, SQL
	}
	if w.Root {
		kinds, what.Kind = kinds+1, Root
	}
	if kinds != 1 {
		return What{}, errors.New("want one of table, function, sql, root")
	}
	if what.Method == "" {
		what.Method = defaultMethod[what.Kind]
	}
	if !KnownMethod(what.Method) {
		return What{}, fmt.Errorf("method %.20q: want one of %s", what.Method, strings.Join(methods, ", "))
	}
	if what.Schema == "" && what.Kind != SQL {
		what.Schema = "public"
	}
	return what, nil
}

var defaultMethod = map[Kind]string{Table: "GET", Function: "POST", SQL: "POST", Root: "GET"}
