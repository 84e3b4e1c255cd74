-- +goose Up

-- One row: which catalog this is. The audit log names its sources by it.
create table catalog_identity (
    one_row boolean primary key default true check (one_row),
    id      uuid not null default gen_random_uuid()
);
insert into catalog_identity default values;

create table shards (
    id            text primary key check (id ~ '^[a-z][a-z0-9-]{0,30}$'),
    state         text not null check (state in ('active', 'cordoned', 'draining', 'down')),
    region        text not null default '',
    class         text not null default '',
    labels        jsonb not null default '{}' check (jsonb_typeof(labels) = 'object'),
    postgres_host text not null check (postgres_host <> ''),
    postgres_port integer not null check (postgres_port between 1 and 65535),
    bouncer_host  text not null check (bouncer_host <> ''),
    bouncer_port  integer not null check (bouncer_port between 1 and 65535),
    routes_file   text not null default '',
    max_databases integer not null default 0 check (max_databases >= 0),
    version       bigint not null default 1,
    created_at    timestamptz not null default clock_timestamp()
);

create table tenants (
    id           text primary key check (id ~ '^[a-z][a-z0-9-]{0,46}$'),
    display_name text not null,
    created_at   timestamptz not null default clock_timestamp(),
    deleted_at   timestamptz,
    purge_after  timestamptz,
    purged_at    timestamptz,
    check ((deleted_at is null) = (purge_after is null)),
    check (purged_at is null or deleted_at is not null)
);

-- Every database the platform knows of, on every shard. During a move the same
-- name exists on two shards.
create table databases (
    shard          text not null references shards,
    name           text not null check (name ~ '^t_[0-9a-f]{16}$'),
    state          text not null check (state in ('building', 'ready', 'assigned', 'target', 'retired', 'dropping')),
    tenant         text references tenants,
    schema_version bigint not null default 0,
    drop_after     timestamptz,
    created_at     timestamptz not null default clock_timestamp(),
    primary key (shard, name),
    constraint databases_tenant_fits_state check (case
        when state in ('building', 'ready') then tenant is null
        when state in ('assigned', 'target', 'retired') then tenant is not null
        else true end)
);
-- A name has at most one home, and a tenant at most one database in use.
create unique index databases_one_home on databases (name) where state = 'assigned';
create unique index databases_one_per_tenant on databases (tenant) where state = 'assigned';
create index databases_by_shard on databases (shard, state);
create index databases_ready on databases (schema_version, shard, created_at) where state = 'ready';
create index databases_by_tenant on databases (tenant) where tenant is not null;
create index databases_to_drop on databases (drop_after) where drop_after is not null;

create table placements (
    tenant     text primary key references tenants,
    shard      text not null references shards,
    database   text not null unique check (database ~ '^t_[0-9a-f]{16}$'),
    epoch      bigint not null check (epoch > 0),
    state      text not null check (state in ('active', 'suspended', 'deleted')),
    changed_at timestamptz not null default clock_timestamp()
);
create index placements_by_shard on placements (shard);

-- What changed and is not published yet. The relay publishes the row's newest
-- state, so a row here says only which one, and how new it is at least.
create table outbox (
    id         bigint generated always as identity primary key,
    topic      text not null check (topic in ('placement', 'shard')),
    key        text not null,
    version    bigint not null,
    created_at timestamptz not null default clock_timestamp()
);

create table operations (
    id               uuid primary key,
    kind             text not null check (kind <> ''),
    tenant           text check (tenant ~ '^[a-z][a-z0-9-]{0,46}$'),
    state            text not null check (state in ('pending', 'running', 'undoing', 'done', 'failed', 'canceled')),
    step             text not null default '',
    attempt          integer not null default 0 check (attempt >= 0),
    past_no_return   boolean not null default false,
    cancel_requested boolean not null default false,
    data             jsonb not null,
    progress         jsonb not null default '{}',
    receipt          jsonb,
    error            text not null default '',
    created_by       text not null,
    actor            jsonb not null,
    reason           text not null default '',
    request_key      text,
    request_hash     bytea,
    created_at       timestamptz not null default clock_timestamp(),
    started_at       timestamptz,
    finished_at      timestamptz,
    next_run         timestamptz not null default clock_timestamp(),
    worker           text not null default '',
    lease_until      timestamptz,
    token            bigint not null default 0 check (token >= 0),
    constraint operations_no_way_back check (not (past_no_return and state in ('undoing', 'failed', 'canceled'))),
    constraint operations_finished check ((finished_at is not null) = (state in ('done', 'failed', 'canceled')))
);
create unique index operations_one_per_tenant on operations (tenant) where state in ('pending', 'running', 'undoing');
create unique index operations_request on operations (created_by, request_key) where request_key is not null;
create index operations_due on operations (next_run) where state in ('pending', 'running', 'undoing');
create index operations_by_tenant on operations (tenant, id);
create index operations_by_kind on operations (kind, id);

create table operation_steps (
    id          bigint generated always as identity primary key,
    operation   uuid not null references operations,
    step        text not null,
    undo        boolean not null,
    attempt     integer not null,
    worker      text not null,
    token       bigint not null,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    error       text not null default ''
);
create index operation_steps_by_operation on operation_steps (operation, id);

-- Answers given to requests with a key, so that a retry gets the same answer.
create table idempotency_keys (
    actor       text not null,
    key         text not null,
    hash        bytea not null,
    status      integer,
    body        bytea,
    begun_at    timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (actor, key)
);
create index idempotency_keys_by_age on idempotency_keys (begun_at);

-- Audit records on their way to the audit database. sequence is given by the
-- relay, gap-free, when it sees the row committed.
create table audit_outbox (
    id       bigint generated always as identity primary key,
    sequence bigint unique,
    record   jsonb not null
);
create index audit_outbox_unsequenced on audit_outbox (id) where sequence is null;
create table audit_sequence (
    one_row boolean primary key default true check (one_row),
    last    bigint not null default 0
);
insert into audit_sequence default values;

-- +goose StatementBegin
create function refuse() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused', tg_op, tg_table_name using errcode = 'restrict_violation';
end $$;
-- +goose StatementEnd

-- IDs are never used again because the rows never go away.
create trigger tenants_stay before delete or truncate on tenants for each statement execute function refuse();
create trigger placements_stay before delete or truncate on placements for each statement execute function refuse();

-- +goose StatementBegin
create function placements_change() returns trigger language plpgsql as $$
begin
    if new.epoch <> old.epoch + 1 or new.tenant <> old.tenant or new.database <> old.database then
        raise exception 'placement of % at epoch %: a change must keep tenant and database and make the epoch %',
            old.tenant, old.epoch, old.epoch + 1 using errcode = 'check_violation', constraint = 'placements_epoch';
    end if;
    new.changed_at := clock_timestamp();
    return new;
end $$;
-- +goose StatementEnd
create trigger placements_change before update on placements for each row execute function placements_change();

-- +goose StatementBegin
create function placements_publish() returns trigger language plpgsql as $$
begin
    insert into outbox (topic, key, version) values ('placement', new.tenant, new.epoch);
    perform pg_notify('freehold_outbox', '');
    return null;
end $$;
-- +goose StatementEnd
create trigger placements_publish after insert or update on placements for each row execute function placements_publish();

-- +goose StatementBegin
create function shards_change() returns trigger language plpgsql as $$
begin
    new.version := old.version + 1;
    return new;
end $$;
-- +goose StatementEnd
create trigger shards_change before update on shards for each row execute function shards_change();

-- +goose StatementBegin
create function shards_publish() returns trigger language plpgsql as $$
begin
    insert into outbox (topic, key, version) values ('shard', new.id, new.version);
    perform pg_notify('freehold_outbox', '');
    return null;
end $$;
-- +goose StatementEnd
create trigger shards_publish after insert or update on shards for each row execute function shards_publish();

-- At commit, the database that a live placement names is assigned to its
-- tenant. Checked from both sides; each side locks what the other changes, so
-- that two transactions can't pass by each other.
-- +goose StatementBegin
create function placements_have_database() returns trigger language plpgsql as $$
declare
    p placements;
begin
    select * into p from placements where tenant = new.tenant;
    if p.state <> 'deleted' then
        perform from databases where shard = p.shard and name = p.database and tenant = p.tenant and state = 'assigned' for share;
        if not found then
            raise exception 'placement of % names %.%, which is not assigned to it', p.tenant, p.shard, p.database
                using errcode = 'check_violation', constraint = 'placements_have_database';
        end if;
    end if;
    return null;
end $$;
-- +goose StatementEnd
create constraint trigger placements_have_database after insert or update on placements
    deferrable initially deferred for each row execute function placements_have_database();

-- +goose StatementBegin
create function databases_in_use() returns trigger language plpgsql as $$
begin
    perform from placements where tenant = old.tenant and shard = old.shard and database = old.name and state <> 'deleted' for share;
    if found and not exists (select from databases
            where shard = old.shard and name = old.name and tenant = old.tenant and state = 'assigned') then
        raise exception 'database %.% is in use by tenant %', old.shard, old.name, old.tenant
            using errcode = 'check_violation', constraint = 'databases_in_use';
    end if;
    return null;
end $$;
-- +goose StatementEnd
create constraint trigger databases_in_use after update or delete on databases
    deferrable initially deferred for each row when (old.state = 'assigned') execute function databases_in_use();

-- A shard with a bound takes no more databases than it says. The row lock
-- makes those who add to the same shard wait for each other.
-- +goose StatementBegin
create function databases_have_room() returns trigger language plpgsql as $$
declare
    bound integer;
begin
    select max_databases into bound from shards where id = new.shard;
    if bound > 0 then
        perform from shards where id = new.shard for no key update;
        if (select count(*) from databases where shard = new.shard and state <> 'dropping') >= bound then
            raise exception 'shard % holds its % databases already', new.shard, bound
                using errcode = 'check_violation', constraint = 'databases_have_room';
        end if;
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger databases_have_room before insert on databases for each row execute function databases_have_room();

-- What has ended stays ended, tokens only grow, and there is no way back.
-- +goose StatementBegin
create function operations_change() returns trigger language plpgsql as $$
begin
    if old.state in ('done', 'failed', 'canceled') or new.token < old.token
        or (old.past_no_return and not new.past_no_return) or (old.cancel_requested and not new.cancel_requested)
        or (old.state = 'undoing' and new.state in ('pending', 'running', 'done')) then
        raise exception 'operation %: from % (token %) to % (token %) is no transition', old.id, old.state, old.token, new.state, new.token
            using errcode = 'check_violation', constraint = 'operations_change';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger operations_change before update on operations for each row execute function operations_change();

-- +goose StatementBegin
create function audit_outbox_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('freehold_audit', '');
    return null;
end $$;
-- +goose StatementEnd
create trigger audit_outbox_notify after insert on audit_outbox for each statement execute function audit_outbox_notify();

-- A record may be numbered once, and taken away only when it was.
-- +goose StatementBegin
create function audit_outbox_change() returns trigger language plpgsql as $$
begin
    if old.sequence is null and (tg_op = 'DELETE' or new.sequence is null or new.record <> old.record)
        or old.sequence is not null and tg_op = 'UPDATE' then
        raise exception '% of an audit record is refused', tg_op using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
-- +goose StatementEnd
create trigger audit_outbox_change before update or delete on audit_outbox for each row execute function audit_outbox_change();
create trigger audit_outbox_stay before truncate on audit_outbox for each statement execute function refuse();

-- +goose Down
drop table audit_sequence, audit_outbox, idempotency_keys, operation_steps, operations, outbox,
    placements, databases, tenants, shards, catalog_identity cascade;
drop function refuse, placements_change, placements_publish, shards_change, shards_publish, placements_have_database,
    databases_in_use, databases_have_room, operations_change, audit_outbox_notify, audit_outbox_change;
