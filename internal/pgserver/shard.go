package pgserver

// ShardSettings are what a shard's Postgres needs: logical decoding with room
// for many moves at once, and answers of subscribers often enough to read lag by.
func ShardSettings() map[string]string {
	return map[string]string{
		"wal_level":                         "logical",
		"max_connections":                   "200",
		"max_replication_slots":             "32",
		"max_wal_senders":                   "32",
		"max_worker_processes":              "40",
		"max_logical_replication_workers":   "24",
		"max_sync_workers_per_subscription": "4",
		"wal_receiver_status_interval":      "1s",
		"wal_retrieve_retry_interval":       "200ms", // or a second move's stream within 5 s waits for as long to begin
		"shared_buffers":                    "128MB",
		"max_wal_size":                      "4GB",
		"checkpoint_timeout":                "15min",
	}
}
