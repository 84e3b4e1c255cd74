-- +goose Up

-- The generations of logins that were issued after the first, which a tenant's
-- database or a shard is made with and has no row for; package controlplane/rotation.
-- The secrets themselves are in the secret store.
create table credentials (
    kind       text not null check (kind in ('tenant', 'shard')),
    subject    text not null, -- the tenant, or the shard
    login      text not null, -- the one that the secret names
    generation bigint not null check (generation > 0),
    issued_at  timestamptz not null default clock_timestamp(),
    issued_by  text not null,
    reason     text not null default '',
    primary key (kind, subject)
);

-- +goose Down
drop table credentials;
