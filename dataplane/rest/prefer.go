package rest

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // so that all nodes know the same zones
)

// preferences are those of the Prefer headers that are known, as written; of
// several for one thing the first counts.
type preferences struct {
	resolution, missing, representation, count, handling, tx string
	// timezone is the zone's name, "" when none is preferred.
	timezone string
	// maxAffected is negative when not preferred.
	maxAffected int64
	unknown     []string
	zones       int // looked up
}

func (p *preferences) strict() bool { return p.handling == "handling=strict" }

func parsePreferences(headers []string) preferences {
	p := preferences{maxAffected: -1}
	for _, header := range headers {
		for preference := range strings.SplitSeq(header, ",") {
			if preference = strings.TrimSpace(preference); preference != "" {
				p.take(preference)
			}
		}
	}
	return p
}

// maxZones bounds the time zones of one request that are looked up: each that
// is none costs some files.
const maxZones = 8

// zones are the names of the time zones that were asked for.
var zones sync.Map

// isZone tells whether a time zone is known by just that name. The names are
// those of the tz database, which Postgres has, too.
func isZone(name string) bool {
	if _, known := zones.Load(name); known {
		return true
	}
	if name == "Local" || len(name) > 64 || slices.Contains(strings.Split(name, "/"), "") || strings.ContainsFunc(name, notOfZones) {
		return false
	}
	_, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, struct{}{})
	}
	return err == nil
}

// notOfZones are characters that no time zone's name has, though its file's may: dots, for one.
func notOfZones(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/_+-", r)
}

func (p *preferences) take(preference string) {
	var to *string
	switch preference {
	case "resolution=merge-duplicates", "resolution=ignore-duplicates":
		to = &p.resolution
	case "missing=default", "missing=null":
		to = &p.missing
	case "return=representation", "return=minimal", "return=headers-only":
		to = &p.representation
	case "count=exact", "count=planned", "count=estimated":
		to = &p.count
	case "handling=strict", "handling=lenient":
		to = &p.handling
	case "tx=commit", "tx=rollback":
		to = &p.tx
	default:
		p.takeValue(preference)
		return
	}
	if *to == "" {
		*to = preference
	}
}

func (p *preferences) takeValue(preference string) {
	name, value, _ := strings.Cut(preference, "=")
	switch name {
	case "timezone":
		if p.zones++; p.zones > maxZones || !isZone(value) {
			p.unknown = append(p.unknown, preference)
		} else if p.timezone == "" {
			p.timezone = value
		}
	case "max-affected":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 && p.maxAffected < 0 {
			p.maxAffected = n
		}
	default:
		p.unknown = append(p.unknown, preference)
	}
}

// applied renders Preference-Applied, or "".
func applied(preferences ...string) string {
	var b strings.Builder
	for _, p := range preferences {
		if p == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p)
	}
	return b.String()
}
