package cli

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
)

// Nothing of a record is shown as proved that its text does not say, and no record that no checkpoint has.
func TestWhatIsShownOfARecordIsProved(t *testing.T) {
	t.Parallel()
	const text = `{"position":2,"record":{"Actor":{"Name":"op","Address":"192.0.2.1","RequestID":"r1"},"Action":"tenant.move","Object":"tenant/acme","Tenant":"acme","Outcome":"ok","TraceID":"t1","Time":"2026-01-01T00:00:00Z","Details":{"to": "s2<", "n": 12345678901234567890}}}`
	first, second := tlog.RecordHash([]byte("another")), tlog.RecordHash([]byte(text))
	head := proof.Checkpoint{Size: 2, Root: tlog.NodeHash(first, second)}
	entry := func() api.AuditEntry {
		return api.AuditEntry{Position: 2, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Actor: "op", Action: "tenant.move", Object: "tenant/acme", Tenant: "acme",
			Outcome: "ok", Details: json.RawMessage(`{"n":12345678901234567890,"to":"s2\u003c"}`), RequestID: "r1", TraceID: "t1", Address: "192.0.2.1",
			Hash: recordHash(text), Leaf: text, Proof: []string{base64.StdEncoding.EncodeToString(first[:])}}
	}
	require.NoError(t, check(head, entry()))
	unsigned := entry()
	unsigned.Proof = nil
	require.NoError(t, check(proof.Checkpoint{Size: 1}, unsigned))
	for name, change := range map[string]func(*api.AuditEntry){
		"details": func(e *api.AuditEntry) { e.Details = json.RawMessage(`{"to":"s3"}`) },
		"digits":  func(e *api.AuditEntry) { e.Details = json.RawMessage(`{"n":12345678901234567891,"to":"s2<"}`) },
		"none":    func(e *api.AuditEntry) { e.Details = nil },
		"address": func(e *api.AuditEntry) { e.Address = "192.0.2.2" },
		"request": func(e *api.AuditEntry) { e.RequestID = "r2" },
		"trace":   func(e *api.AuditEntry) { e.TraceID = "t2" },
		"hash":    func(e *api.AuditEntry) { e.Hash = recordHash("x") },
		"text":    func(e *api.AuditEntry) { e.Leaf = "" },
	} {
		e := entry()
		change(&e)
		require.Error(t, check(head, e), name)
		e.Proof = nil
		require.Error(t, check(proof.Checkpoint{Size: 1}, e), name)
	}
	require.Error(t, check(proof.Checkpoint{Size: 1}, entry()), "a proof that belongs to no checkpoint")
}
