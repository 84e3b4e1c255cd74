// Package policyfile reads and writes what an operator declares of placement: the
// fleet's policy, the capacities of shards, and what tenants need.
//
//	policy:
//	  headroom: 20%                  # of each capacity stays free
//	  tolerance: 5%                  # over its even share a shard may be after a plan
//	  margin: 3%                     # further over before a plan begins
//	  floor: {bytes: 5%, databases: 25%}
//	  cooldown: 24h
//	  quiet: [mon-fri 08:00-18:00]   # UTC
//	  max_moves: 4
//	  max_moves_per_shard: 1
//	  max_bytes_per_hour: 500GB
//	shards:
//	  s1: {bytes: 2TB, connections: 500, load: 8, wal: 50MB/s, databases: 5000}
//	tenants:
//	  acme: {region: eu, require: {disk: nvme}, apart: banks, exclusive: true}
//
// What is left out of the policy has its default; shards and tenants that are
// left out have no bounds and no needs.
//
// Import law: as balance, and gopkg.in/yaml.v3.
package policyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// Document is what a file declares.
type Document struct {
	Policy  balance.Policy
	Shards  map[shardmap.ShardID]balance.Vector // capacities
	Tenants map[shardmap.TenantID]balance.Needs
}

// file is the document as it is written.
type file struct {
	Policy  policy              `yaml:"policy"`
	Shards  map[string]capacity `yaml:"shards,omitempty"`
	Tenants map[string]needs    `yaml:"tenants,omitempty"`
}

type policy struct {
	Headroom         share         `yaml:"headroom"`
	Tolerance        share         `yaml:"tolerance"`
	Margin           share         `yaml:"margin"`
	Floor            floor         `yaml:"floor"`
	Cooldown         time.Duration `yaml:"cooldown"`
	Quiet            []window      `yaml:"quiet,omitempty"`
	MaxMoves         int           `yaml:"max_moves"`
	MaxMovesPerShard int           `yaml:"max_moves_per_shard"`
	MaxBytesPerHour  amount        `yaml:"max_bytes_per_hour"`
}

type floor struct {
	Bytes       share `yaml:"bytes"`
	Connections share `yaml:"connections"`
	Load        share `yaml:"load"`
	WAL         share `yaml:"wal"`
	Databases   share `yaml:"databases"`
}

type capacity struct {
	Bytes       amount `yaml:"bytes,omitempty"`
	Connections number `yaml:"connections,omitempty"`
	Load        number `yaml:"load,omitempty"`
	WAL         rate   `yaml:"wal,omitempty"`
	Databases   number `yaml:"databases,omitempty"`
}

type needs struct {
	Region    string            `yaml:"region,omitempty"`
	Class     string            `yaml:"class,omitempty"`
	Require   map[string]string `yaml:"require,omitempty"`
	Forbid    map[string]string `yaml:"forbid,omitempty"`
	Apart     string            `yaml:"apart,omitempty"`
	Pinned    bool              `yaml:"pinned,omitempty"`
	Exclusive bool              `yaml:"exclusive,omitempty"`
}

// Parse reads a document and refuses one that cannot be kept. Errors: balance.ErrInvalid,
// with the line where there is one.
func Parse(text []byte) (*Document, error) {
	f := written(&Document{Policy: balance.DefaultPolicy()})
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true) // a typo must not leave a bound off
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w policy: %s", balance.ErrInvalid, oneLine(err))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w policy: more than one document", balance.ErrInvalid)
	}
	d, err := f.document()
	if err != nil {
		return nil, fmt.Errorf("%w policy: %w", balance.ErrInvalid, err)
	}
	if err := d.Policy.Validate(); err != nil {
		return nil, err
	}
	return d, nil
}

// HasPolicy tells whether a document that Parse takes has a section policy.
func HasPolicy(text []byte) bool {
	var sections struct {
		Policy yaml.Node `yaml:"policy"`
	}
	return yaml.Unmarshal(text, &sections) == nil && !sections.Policy.IsZero()
}

// oneLine says what YAML found wrong in one line, and nothing of our types.
func oneLine(err error) string {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	lines := make([]string, len(wrong.Errors))
	for i, line := range wrong.Errors {
		lines[i], _, _ = strings.Cut(line, " in type ")
	}
	return strings.Join(lines, "; ")
}

func (f *file) document() (*Document, error) {
	p := f.Policy
	d := &Document{
		Policy: balance.Policy{
			Headroom: float64(p.Headroom), Tolerance: float64(p.Tolerance), Margin: float64(p.Margin),
			Floor:    balance.Vector{float64(p.Floor.Bytes), float64(p.Floor.Connections), float64(p.Floor.Load), float64(p.Floor.WAL), float64(p.Floor.Databases)},
			Cooldown: p.Cooldown, MaxMoves: p.MaxMoves, MaxMovesPerShard: p.MaxMovesPerShard, MaxBytesPerHour: float64(p.MaxBytesPerHour),
		},
		Shards: map[shardmap.ShardID]balance.Vector{}, Tenants: map[shardmap.TenantID]balance.Needs{},
	}
	for _, w := range p.Quiet {
		d.Policy.Quiet = append(d.Policy.Quiet, balance.Window(w))
	}
	for name, c := range f.Shards {
		id, err := shardmap.ParseShardID(name)
		if err != nil {
			return nil, err
		}
		d.Shards[id] = balance.Vector{float64(c.Bytes), float64(c.Connections), float64(c.Load), float64(c.WAL), float64(c.Databases)}
	}
	for name, n := range f.Tenants {
		id, err := shardmap.ParseTenantID(name)
		if err != nil {
			return nil, err
		}
		for label, value := range n.Require {
			if unwanted, also := n.Forbid[label]; also && unwanted == value {
				return nil, fmt.Errorf("tenant %s requires the label %s=%s and forbids it", id, label, value)
			}
		}
		d.Tenants[id] = balance.Needs(n)
	}
	return d, nil
}

// written is the document as it is written.
func written(d *Document) file {
	p := d.Policy
	f := file{
		Policy: policy{
			Headroom: share(p.Headroom), Tolerance: share(p.Tolerance), Margin: share(p.Margin),
			Floor: floor{share(p.Floor[balance.Bytes]), share(p.Floor[balance.Connections]), share(p.Floor[balance.Load]),
				share(p.Floor[balance.WAL]), share(p.Floor[balance.Databases])},
			Cooldown: p.Cooldown, MaxMoves: p.MaxMoves, MaxMovesPerShard: p.MaxMovesPerShard, MaxBytesPerHour: amount(p.MaxBytesPerHour),
		},
		Shards: map[string]capacity{}, Tenants: map[string]needs{},
	}
	for _, w := range p.Quiet {
		f.Policy.Quiet = append(f.Policy.Quiet, window(w))
	}
	for id, c := range d.Shards {
		f.Shards[string(id)] = capacity{amount(c[balance.Bytes]), number(c[balance.Connections]), number(c[balance.Load]), rate(c[balance.WAL]), number(c[balance.Databases])}
	}
	for id, n := range d.Tenants {
		f.Tenants[string(id)] = needs(n)
	}
	return f
}

// Write is the document in full, always the same way; [Parse] reads it back.
func (d *Document) Write() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(written(d)); err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	return b.Bytes(), enc.Close()
}

// Impose sets the capacities of the fleet's shards and the needs of its tenants.
// Errors: balance.ErrInvalid, when the document names a shard or tenant that the fleet has not.
func (d *Document) Impose(f *balance.Fleet) error {
	missing := map[string]bool{}
	for id := range d.Shards {
		missing["shard "+string(id)] = true
	}
	for id := range d.Tenants {
		missing["tenant "+string(id)] = true
	}
	for i := range f.Shards {
		delete(missing, "shard "+string(f.Shards[i].ID))
	}
	for i := range f.Tenants {
		delete(missing, "tenant "+string(f.Tenants[i].ID))
	}
	for name := range missing {
		return fmt.Errorf("%w policy: there is no %s", balance.ErrInvalid, name)
	}
	for i := range f.Shards {
		f.Shards[i].Capacity = d.Shards[f.Shards[i].ID]
	}
	for i := range f.Tenants {
		f.Tenants[i].Needs = nil
		if n, has := d.Tenants[f.Tenants[i].ID]; has {
			f.Tenants[i].Needs = &n
		}
	}
	return nil
}
