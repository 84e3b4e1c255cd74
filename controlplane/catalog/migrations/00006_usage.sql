-- +goose Up

-- What shards and tenants use. Package controlplane/usage measures it at the
-- servers and writes these tables; nothing that must be right depends on them.
create table shard_usage (
    shard        text primary key references shards on delete cascade,
    keeper       text not null default '', -- the replica that measures this shard, until keeper_until
    keeper_until timestamptz not null default '-infinity',
    measured_at  timestamptz, -- the last look that worked; null: none ever did
    trouble      text not null default '', -- why the last look did not; empty: it did
    figures      jsonb not null default '{}' check (jsonb_typeof(figures) = 'object')
);

-- A row is written when its figures have changed, so an old one of a shard that
-- is being measured still holds. Figures are rates a second, averaged over the
-- last minutes; those of day_ over a day.
create table tenant_usage (
    tenant          text primary key references tenants,
    shard           text not null, -- where it was measured
    measured_at     timestamptz not null default clock_timestamp(),
    seconds         double precision not null default 0, -- how long it was measured in all
    bytes           bigint not null default 0 check (bytes >= 0),
    connections     double precision not null default 0,
    load            double precision not null default 0,
    wal             double precision not null default 0,
    transactions    double precision not null default 0,
    rows_read       double precision not null default 0,
    rows_written    double precision not null default 0,
    blocks_hit      double precision not null default 0,
    blocks_read     double precision not null default 0,
    requests        double precision not null default 0,
    failed          double precision not null default 0,
    request_seconds double precision not null default 0,
    day_connections double precision not null default 0,
    day_load        double precision not null default 0,
    day_wal         double precision not null default 0,
    busy            integer not null default 0, -- bit h: the hour from h:00 UTC is one of its busy ones
    peaks           real[] not null default '{}' -- of load, in each of the last 24 hours, by hour of the day; -1: not seen
) with (fillfactor = 80);

-- +goose StatementBegin
create function tenant_usage_purge() returns trigger language plpgsql as $$
begin
    delete from tenant_usage where tenant = new.id;
    return null;
end $$;
-- +goose StatementEnd
create trigger tenant_usage_purge after update of purged_at on tenants for each row
    when (old.purged_at is null and new.purged_at is not null) execute function tenant_usage_purge();

-- +goose Down
drop trigger tenant_usage_purge on tenants;
drop function tenant_usage_purge;
drop table tenant_usage, shard_usage;
