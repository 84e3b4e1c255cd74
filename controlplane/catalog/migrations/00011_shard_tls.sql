-- +goose Up
-- A directory on the machine of the shard's Postgres with the TLS files that it
-- connects to other shards' with (ca.crt, tls.crt, tls.key); empty: there is none.
alter table shards add column postgres_tls_dir text not null default '';

-- +goose Down
alter table shards drop column postgres_tls_dir;
