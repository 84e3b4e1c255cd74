-- +goose Up

-- Records of before are linked one to the next; they keep their links, and
-- those that come now are held by the tree alone.
alter table audit_log rename column prev_hash to chain_prev;
alter table audit_log rename column hash to chain_hash;
alter table audit_log alter column chain_prev drop not null, alter column chain_hash drop not null;
drop trigger audit_log_chain on audit_log;
drop function audit_log_chain;

-- Each record follows the last one, in the log and in its source; also for who writes by hand.
-- +goose StatementBegin
create function audit_log_follow() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    last bigint := coalesce((select max(position) from audit_log), 0);
begin
    if new.position <> last + 1 or new.sequence <> coalesce((select max(sequence) from audit_log where source = new.source), 0) + 1 then
        raise exception 'record % does not follow record %', new.position, last
            using errcode = 'check_violation', constraint = 'audit_log_follow';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger audit_log_follow before insert on audit_log for each row execute function audit_log_follow();

-- The Merkle tree over the entries (RFC 6962): hashes by their index in the
-- order in which they come to be (golang.org/x/mod/sumdb/tlog).
create table audit_tree (
    index bigint primary key check (index >= 0),
    hash  bytea not null check (length(hash) = 32)
);
-- Signed statements of what the tree was at a size (C2SP tlog-checkpoint).
create table audit_checkpoints (
    size      bigint primary key check (size > 0),
    note      text not null,
    signed_at timestamptz not null default clock_timestamp()
);
-- The public halves of all keys that ever signed; each from a size on, until the next one's.
create table audit_keys (
    verifier  text primary key,
    from_size bigint not null check (from_size > 0),
    since     timestamptz not null default clock_timestamp()
);
-- What the log is called in checkpoints.
create table audit_identity (
    one_row boolean primary key default true check (one_row),
    id      uuid not null default gen_random_uuid()
);
insert into audit_identity default values;

create trigger audit_tree_stays before update or delete or truncate on audit_tree
    for each statement execute function audit_log_refuse();
create trigger audit_checkpoints_stay before update or delete or truncate on audit_checkpoints
    for each statement execute function audit_log_refuse();
create trigger audit_keys_stay before update or delete or truncate on audit_keys
    for each statement execute function audit_log_refuse();
create trigger audit_identity_stays before update or delete or truncate on audit_identity
    for each statement execute function audit_log_refuse();

-- What one tenant may see. Without freehold.tenant it is an error, not everything.
-- +goose StatementBegin
create function audit_tenant() returns text language plpgsql stable as $$
begin
    if coalesce(current_setting('freehold.tenant', true), '') = '' then
        raise exception 'freehold.tenant is not set' using errcode = 'insufficient_privilege';
    end if;
    return current_setting('freehold.tenant');
end $$;
-- +goose StatementEnd
create view audit_of_tenant with (security_barrier) as
    select * from audit_log where tenant = (select audit_tenant());

grant insert, select on audit_tree, audit_checkpoints, audit_keys to freehold_audit_writer;
grant select on audit_identity, audit_of_tenant, goose_db_version to freehold_audit_writer;
-- +goose StatementBegin
do $$
begin
    execute format('grant connect on database %I to freehold_audit_writer', current_database());
    execute format('revoke temporary on database %I from public', current_database());
end $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
do $$
begin
    raise exception 'records are held by the tree: there is no way back';
end $$;
-- +goose StatementEnd
