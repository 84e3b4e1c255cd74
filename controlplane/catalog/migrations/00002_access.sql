-- +goose Up

-- What the gateway knows of tenants besides where they live. Package
-- controlplane/access writes these tables and makes documents of them. Every
-- change of what belongs to a document changes the row of fleet_access or
-- tenant_access too: that is what gives it a new version and has it published.
create table plans (
    name   text primary key check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    limits jsonb not null check (jsonb_typeof(limits) = 'object')
);

create table fleet_access (
    one_row      boolean primary key default true check (one_row),
    version      bigint not null default 1 check (version > 0),
    default_plan text references plans,
    policies     jsonb not null default '[]' check (jsonb_typeof(policies) = 'array'),
    changed_at   timestamptz not null default clock_timestamp()
);
insert into fleet_access default values;

-- A tenant that never had anything of its own has no row. One that has nothing
-- any more keeps its row, for its version.
create table tenant_access (
    tenant     text primary key references tenants,
    version    bigint not null default 0 check (version >= 0),
    plan       text references plans,
    limits     jsonb not null default '{}' check (jsonb_typeof(limits) = 'object'),
    attributes jsonb not null default '{}' check (jsonb_typeof(attributes) = 'object'),
    schemas    text[] not null default '{}',
    issuers    jsonb not null default '[]' check (jsonb_typeof(issuers) = 'array'),
    policies   jsonb not null default '[]' check (jsonb_typeof(policies) = 'array'),
    not_before timestamptz,
    changed_at timestamptz not null default clock_timestamp()
);
create index tenant_access_by_plan on tenant_access (plan) where plan is not null;

-- The text of a key is kept nowhere; hash is its SHA-256.
create table api_keys (
    tenant      text not null references tenant_access,
    id          text not null check (id ~ '^[0-9a-f]{12}$'),
    hash        text not null check (hash ~ '^[0-9a-f]{64}$'),
    role        text not null check (role <> ''),
    permissions text[] not null default '{}',
    description text not null default '',
    created_by  text not null,
    created_at  timestamptz not null default clock_timestamp(),
    expires_at  timestamptz,
    revoked_at  timestamptz,
    primary key (tenant, id)
);
create index api_keys_ended on api_keys (least(expires_at, revoked_at)) where expires_at is not null or revoked_at is not null;

-- Database roles of a tenant's own, beside those that every tenant has.
create table tenant_roles (
    tenant      text not null references tenant_access,
    name        text not null check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    description text not null default '',
    created_by  text not null,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (tenant, name)
);

create table revoked_tokens (
    tenant     text not null references tenant_access,
    id         text not null check (id <> '' and length(id) <= 256),
    expires_at timestamptz not null,
    revoked_by text not null,
    revoked_at timestamptz not null default clock_timestamp(),
    primary key (tenant, id)
);
create index revoked_tokens_by_expiry on revoked_tokens (expires_at);

-- Events of nodes that are in the audit outbox already, or were: each gets
-- there once, however often its message comes.
create table audit_events (
    id   uuid primary key,
    seen timestamptz not null default clock_timestamp()
);
create index audit_events_by_age on audit_events (seen);

alter table outbox drop constraint outbox_topic_check,
    add constraint outbox_topic_check check (topic in ('placement', 'shard', 'access'));

create trigger fleet_access_stays before delete or truncate on fleet_access for each statement execute function refuse();
create trigger tenant_access_stays before delete or truncate on tenant_access for each statement execute function refuse();

-- +goose StatementBegin
create function access_change() returns trigger language plpgsql as $$
begin
    new.version := old.version + 1;
    new.changed_at := clock_timestamp();
    return new;
end $$;
-- +goose StatementEnd
create trigger fleet_access_change before update on fleet_access for each row execute function access_change();
create trigger tenant_access_change before update on tenant_access for each row execute function access_change();

-- The key of a tenant's document is its ID, that of the fleet's is no tenant's.
-- +goose StatementBegin
create function access_publish() returns trigger language plpgsql as $$
begin
    insert into outbox (topic, key, version)
    values ('access', case tg_table_name when 'fleet_access' then '_fleet' else to_jsonb(new)->>'tenant' end, new.version);
    perform pg_notify('freehold_outbox', '');
    return null;
end $$;
-- +goose StatementEnd
create trigger fleet_access_publish after insert or update on fleet_access for each row execute function access_publish();
create trigger tenant_access_publish after update on tenant_access for each row execute function access_publish();

-- With a tenant's database goes all that it had: keys above all.
-- +goose StatementBegin
create function access_purge() returns trigger language plpgsql as $$
begin
    delete from api_keys where tenant = new.id;
    delete from tenant_roles where tenant = new.id;
    delete from revoked_tokens where tenant = new.id;
    update tenant_access set plan = null, limits = '{}', attributes = '{}', schemas = '{}', issuers = '[]', policies = '[]', not_before = null
        where tenant = new.id;
    return null;
end $$;
-- +goose StatementEnd
create trigger access_purge after update of purged_at on tenants for each row
    when (old.purged_at is null and new.purged_at is not null) execute function access_purge();

-- +goose Down
drop trigger access_purge on tenants;
drop table audit_events, revoked_tokens, tenant_roles, api_keys, tenant_access, fleet_access, plans;
drop function access_change, access_publish, access_purge;
delete from outbox where topic = 'access';
alter table outbox drop constraint outbox_topic_check,
    add constraint outbox_topic_check check (topic in ('placement', 'shard'));
