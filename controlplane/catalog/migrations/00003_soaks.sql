-- +goose Up

-- After a move the old place may be kept in step for a while, so that the
-- tenant can be taken back. Package controlplane/move makes and ends soaks.
create table soaks (
    operation   uuid primary key, -- the move
    tenant      text not null references tenants,
    database    text not null check (database ~ '^t_[0-9a-f]{16}$'),
    home        text not null references shards, -- where the tenant lives since the move
    old         text not null references shards, -- where it lived before, and is kept in step
    link        text not null check (link <> ''), -- publication and slot at home, subscription at the old place
    fingerprint text not null, -- of the schema at home; another one can't be taken back
    state       text not null check (state in ('soaking', 'reversing', 'ending', 'ended', 'reversed')),
    reason      text not null default '',
    until       timestamptz not null,
    kept_bytes  bigint not null default 0 check (kept_bytes >= 0), -- of home's log, for the old place, at the last look
    trouble     text not null default '', -- what the last look found
    looked_at   timestamptz not null default clock_timestamp(),
    began_at    timestamptz not null default clock_timestamp(),
    ended_at    timestamptz,
    check (home <> old),
    constraint soaks_finished check ((ended_at is not null) = (state in ('ended', 'reversed')))
);
create unique index soaks_one_per_tenant on soaks (tenant) where ended_at is null;
create index soaks_to_look_at on soaks (looked_at) where ended_at is null;
create index soaks_by_tenant on soaks (tenant, operation);

-- What has ended stays ended, and what is being ended does not come back.
-- +goose StatementBegin
create function soaks_change() returns trigger language plpgsql as $$
begin
    if new.state <> old.state and (old.ended_at is not null or old.state = 'ending' and new.state <> 'ended') then
        raise exception 'soak %: from % to % is no transition', old.operation, old.state, new.state
            using errcode = 'check_violation', constraint = 'soaks_change';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger soaks_change before update on soaks for each row execute function soaks_change();

-- With a tenant's databases go the links between them.
-- +goose StatementBegin
create function soaks_purge() returns trigger language plpgsql as $$
begin
    update soaks set state = 'ended', ended_at = clock_timestamp(), reason = 'the tenant was purged'
        where tenant = new.id and ended_at is null;
    return null;
end $$;
-- +goose StatementEnd
create trigger soaks_purge after update of purged_at on tenants for each row
    when (old.purged_at is null and new.purged_at is not null) execute function soaks_purge();

-- +goose Down
drop trigger soaks_purge on tenants;
drop table soaks;
drop function soaks_change, soaks_purge;
