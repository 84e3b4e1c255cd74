-- +goose Up

-- What is wanted of where tenants live; packages controlplane/placement and
-- controlplane/rebalance write and read it. The version counts the changes of
-- policy, capacities and needs, those apart that a tenant is created with.
create table placement_policy (
    one_row    boolean primary key default true check (one_row),
    version    bigint not null default 1 check (version > 0),
    policy     text not null default '', -- as a policy file has it; empty: the defaults
    changed_by text not null default 'system',
    reason     text not null default '',
    changed_at timestamptz not null default clock_timestamp()
);
insert into placement_policy default values;
create trigger placement_policy_stays before delete or truncate on placement_policy for each statement execute function refuse();

-- 0: no bound. A shard without a row has none.
create table shard_capacities (
    shard       text primary key references shards on delete cascade,
    bytes       float8 not null default 0 check (bytes >= 0 and bytes < 'infinity'),
    connections float8 not null default 0 check (connections >= 0 and connections < 'infinity'),
    load        float8 not null default 0 check (load >= 0 and load < 'infinity'),
    wal         float8 not null default 0 check (wal >= 0 and wal < 'infinity'),
    databases   float8 not null default 0 check (databases >= 0 and databases < 'infinity')
);

-- A tenant without a row may live anywhere.
create table tenant_needs (
    tenant     text primary key references tenants,
    region     text not null default '',
    class      text not null default '',
    require    jsonb not null default '{}' check (jsonb_typeof(require) = 'object'),
    forbid     jsonb not null default '{}' check (jsonb_typeof(forbid) = 'object'),
    apart      text not null default '',
    pinned     boolean not null default false,
    exclusive  boolean not null default false,
    changed_by text not null,
    changed_at timestamptz not null default clock_timestamp()
);
create index tenant_needs_apart on tenant_needs (apart) where apart <> '';
create index tenant_needs_exclusive on tenant_needs (tenant) where exclusive;

-- +goose StatementBegin
create function needs_purge() returns trigger language plpgsql as $$
begin
    delete from tenant_needs where tenant = new.id;
    return null;
end $$;
-- +goose StatementEnd
create trigger needs_purge after update of purged_at on tenants for each row
    when (old.purged_at is null and new.purged_at is not null) execute function needs_purge();

-- Plans that somebody may read, and have carried out until they expire.
create table rebalance_plans (
    id             uuid primary key,
    digest         text not null,
    policy_version bigint not null,
    scenario       text not null default '',
    moves          integer not null check (moves >= 0),
    bytes          float8 not null,
    plan           json not null, -- only ever read as a whole
    created_by     text not null,
    reason         text not null default '',
    created_at     timestamptz not null default clock_timestamp(),
    expires_at     timestamptz not null
);
create index rebalance_plans_by_age on rebalance_plans (expires_at);

-- When the tenant came to the shard that it is on, if by a move.
alter table placements add column moved_at timestamptz;
-- +goose StatementBegin
create or replace function placements_change() returns trigger language plpgsql as $$
begin
    if new.epoch <> old.epoch + 1 or new.tenant <> old.tenant or new.database <> old.database then
        raise exception 'placement of % at epoch %: a change must keep tenant and database and make the epoch %',
            old.tenant, old.epoch, old.epoch + 1 using errcode = 'check_violation', constraint = 'placements_epoch';
    end if;
    new.changed_at := clock_timestamp();
    if new.shard <> old.shard then
        new.moved_at := new.changed_at;
    end if;
    return new;
end $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
create or replace function placements_change() returns trigger language plpgsql as $$
begin
    if new.epoch <> old.epoch + 1 or new.tenant <> old.tenant or new.database <> old.database then
        raise exception 'placement of % at epoch %: a change must keep tenant and database and make the epoch %',
            old.tenant, old.epoch, old.epoch + 1 using errcode = 'check_violation', constraint = 'placements_epoch';
    end if;
    new.changed_at := clock_timestamp();
    return new;
end $$;
-- +goose StatementEnd
alter table placements drop column moved_at;
drop trigger needs_purge on tenants;
drop table rebalance_plans, tenant_needs, shard_capacities, placement_policy;
drop function needs_purge;
