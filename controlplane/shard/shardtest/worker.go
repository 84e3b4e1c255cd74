package shardtest

import (
	"context"
	"strings"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
)

// WorkerEnv says, in one environment variable's value, what [OpenWorker] opens: for a
// test binary that is run again as a worker which can be killed (see [pgtest.KilledAt]).
// server is any of the shards: all are reached as it is.
func WorkerEnv(catalogDSN, secretsDir string, server *pgtest.ShardServer) string {
	return catalogDSN + "\n" + secretsDir + "\n" + server.SecurityText()
}

// OpenWorker opens the catalog, the secrets and the channel to shards of [WorkerEnv].
// They last as long as the process.
func OpenWorker(env string) (*catalog.Store, *secret.Dir, *pg.Channel, error) {
	dsn, rest, _ := strings.Cut(env, "\n")
	keys, security, _ := strings.Cut(rest, "\n")
	channel, err := pgtest.ChannelOf(security)
	if err != nil {
		return nil, nil, nil, err
	}
	store, err := catalog.Open(context.Background(), dsn)
	if err != nil {
		return nil, nil, nil, err
	}
	secrets, err := secret.OpenDir(keys)
	if err != nil {
		return nil, nil, nil, err
	}
	return store, secrets, channel, nil
}
