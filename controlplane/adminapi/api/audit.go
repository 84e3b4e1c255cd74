package api

// TenantAudit is a page of one tenant's records.
type TenantAudit struct {
	Items      []AuditEntry `json:"items"`
	NextCursor string       `json:"next_cursor,omitempty"`
	// Checkpoint is the newest signed one, which the items' proofs are of; empty: nothing was signed yet.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// AuditCheckpoint is what signing the audit log came to.
type AuditCheckpoint struct {
	// Records is how many the newest checkpoint covers; 0: there are none.
	Records    int64  `json:"records"`
	Checkpoint string `json:"checkpoint,omitempty"`
	// Anchored: every place has it.
	Anchored bool `json:"anchored"`
}

// AuditConsistency shows that the log of To records has all that the one of From had.
type AuditConsistency struct {
	From  int64    `json:"from"`
	To    int64    `json:"to"`
	Proof []string `json:"proof"` // hashes, base64
}
