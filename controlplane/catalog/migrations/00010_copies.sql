-- +goose Up

-- Sealed copies of tenants' databases that were made or taken in. Packages
-- controlplane/copies and controlplane/erase write these tables.
create table copies (
    id             uuid primary key,
    tenant         text not null references tenants,
    state          text not null check (state in ('making', 'held', 'gone')),
    origin         text not null check (origin in ('export', 'upload')),
    sealed_as      uuid not null, -- the copy's ID in its header: its own, or that of the export that was sent back
    file           text not null default '', -- its name in the directory of copies
    why_gone       text not null default '', -- 'expired', 'deleted', 'erased', 'abandoned', 'refused'
    bytes          bigint not null default 0 check (bytes >= 0),
    sha256         text not null default '',
    lsn            text not null default '', -- of the shard's log, at or after the copy's moment
    schema_version bigint not null default 0,
    taken_at       timestamptz, -- the moment whose state it holds
    handed_out     integer not null default 0 check (handed_out >= 0), -- how often it was given to somebody
    created_by     text not null,
    created_at     timestamptz not null default clock_timestamp(),
    expires_at     timestamptz not null,
    gone_at        timestamptz,
    constraint copies_gone check ((gone_at is not null) = (state = 'gone'))
);
create index copies_by_tenant on copies (tenant, id);
create index copies_to_expire on copies (expires_at) where state = 'held';

-- +goose StatementBegin
create function copies_change() returns trigger language plpgsql as $$
begin
    if old.state = 'gone' and new.state <> 'gone' or new.tenant <> old.tenant or new.handed_out < old.handed_out then
        raise exception 'copy %: from % to % is no transition', old.id, old.state, new.state
            using errcode = 'check_violation', constraint = 'copies_change';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger copies_change before update on copies for each row execute function copies_change();
create trigger copies_stay before delete or truncate on copies for each statement execute function refuse();

-- Tenants whose key was rotated; the keys themselves are in the secret store.
create table tenant_keys (
    tenant     text primary key references tenants,
    rotations  integer not null default 0 check (rotations >= 0),
    rotated_at timestamptz not null default clock_timestamp(),
    rotated_by text not null
);

-- From the moment at which an erasure can't be taken back.
alter table tenants add column erased_at timestamptz,
    add constraint tenants_erased check (erased_at is null or deleted_at is not null);
create table erasures (
    tenant      text primary key references tenants,
    operation   uuid not null,
    certificate text not null, -- as it was signed
    issued_at   timestamptz not null default clock_timestamp()
);
create trigger erasures_stay before update or delete or truncate on erasures for each statement execute function refuse();

-- Nothing brings an erased tenant back, whoever asks.
-- +goose StatementBegin
create function erased_stays() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'tenants' then
        if old.erased_at is not null and new.erased_at is distinct from old.erased_at then
            raise exception 'tenant % was erased', old.id using errcode = 'check_violation', constraint = 'erased_stays';
        end if;
    elsif new.state <> 'deleted' and exists (select from tenants where id = new.tenant and erased_at is not null) then
        raise exception 'tenant % was erased', new.tenant using errcode = 'check_violation', constraint = 'erased_stays';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger erased_stays before update on tenants for each row execute function erased_stays();
create trigger erased_stays before update on placements for each row execute function erased_stays();

-- A shard that is gone for good keeps its row, which placements of purged tenants name.
alter table shards drop constraint shards_state_check,
    add constraint shards_state_check check (state in ('active', 'cordoned', 'draining', 'down', 'removed'));

-- +goose Down
alter table shards drop constraint shards_state_check;
update shards set state = 'down' where state = 'removed';
alter table shards add constraint shards_state_check check (state in ('active', 'cordoned', 'draining', 'down'));
drop trigger erased_stays on placements;
drop trigger erased_stays on tenants;
drop table erasures, tenant_keys, copies;
alter table tenants drop column erased_at;
drop function erased_stays, copies_change;
