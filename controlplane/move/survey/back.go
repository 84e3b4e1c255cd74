package survey

import "fmt"

// Back says what keeps the old place from following the new home after a move,
// so that the tenant could be taken back.
func Back(home, old Server) []Finding {
	var found []Finding
	refuse := func(code, reason, remedy string) {
		found = append(found, Finding{Level: Refuse, Code: code, Reason: reason, Remedy: remedy + ", or move without a soak"})
	}
	if home.WALLevel != "logical" {
		refuse("soak-wal-level", "the target's wal_level is "+home.WALLevel+", and the source could not follow it", "set wal_level = logical there and restart it")
	}
	if home.FreeSlots < 1 {
		refuse("soak-slots", "the target has no free replication slot for the way back", "raise max_replication_slots there")
	}
	if home.FreeSenders < 1 {
		refuse("soak-senders", fmt.Sprintf("the target has %d free WAL senders for the way back", max(home.FreeSenders, 0)), "raise max_wal_senders there")
	}
	if old.FreeWorkers < 1 {
		refuse("soak-workers", "the source has no free logical replication worker for the way back", "raise max_logical_replication_workers and max_worker_processes there")
	}
	return found
}
