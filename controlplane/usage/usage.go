// Package usage measures what shards and tenants use, at the servers
// themselves: size, connections, execution time, write-ahead log, transactions
// and rows from Postgres' shared statistics, requests and their time from the
// data-plane nodes. What it finds is kept in the catalog, smoothed, for people
// (`shard top`, `tenant top`), for the planner, and for who is about to burden a shard.
//
// Nothing that must be right depends on it: figures may be old, or not there.
//
// A shard is measured by one replica at a time, with one connection, to the
// maintenance database: no tenant's database is ever connected to, so that no
// move or drop waits for a measurement. A look costs the shard a few statements,
// however many databases it has, and the catalog one row of the shard and, every
// so often, those tenants whose figures have changed.
//
// Import law: of this module, usage imports shardmap, internal packages, and
// controlplane/catalog, shard, balance and move/pace.
package usage
