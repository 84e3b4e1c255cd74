-- +goose Up

-- The log is only ever appended to. entry is the exact text that hash covers;
-- the columns beside it only serve to find it, and are compared with it by Verify.
create table audit_log (
    position  bigint primary key check (position > 0),
    source    uuid not null,
    sequence  bigint not null check (sequence > 0),
    logged_at timestamptz not null,
    tenant    text not null,
    actor     text not null,
    action    text not null,
    happened  timestamptz not null,
    entry     text not null,
    prev_hash bytea not null check (length(prev_hash) = 32),
    hash      bytea not null unique check (length(hash) = 32),
    unique (source, sequence)
);
create index audit_log_by_tenant on audit_log (tenant, position);
create index audit_log_by_actor on audit_log (actor, position);
create index audit_log_by_action on audit_log (action, position);
create index audit_log_by_time on audit_log (happened);

-- +goose StatementBegin
create function audit_log_refuse() returns trigger language plpgsql as $$
begin
    raise exception '% on the audit log is refused', tg_op using errcode = 'restrict_violation';
end $$;
-- +goose StatementEnd
create trigger audit_log_stays before update or delete or truncate on audit_log
    for each statement execute function audit_log_refuse();

-- Each record follows the last one; also for who writes by hand.
-- +goose StatementBegin
create function audit_log_chain() returns trigger language plpgsql as $$
declare
    last audit_log;
begin
    select * into last from audit_log order by position desc limit 1;
    if new.position <> coalesce(last.position, 0) + 1
        or new.prev_hash <> coalesce(last.hash, decode(repeat('00', 32), 'hex'))
        or new.sequence <> coalesce((select max(sequence) from audit_log where source = new.source), 0) + 1 then
        raise exception 'record % does not follow record %', new.position, coalesce(last.position, 0)
            using errcode = 'check_violation', constraint = 'audit_log_chain';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger audit_log_chain before insert on audit_log for each row execute function audit_log_chain();

-- The relay writes as this role, which can add and read and nothing else. A
-- login that may not create roles finds it made beforehand, with itself a member.
-- +goose StatementBegin
do $$
begin
    if not exists (select from pg_roles where rolname = 'freehold_audit_writer') then
        create role freehold_audit_writer nologin;
    end if;
exception when duplicate_object or unique_violation then
    null; -- roles are shared by all databases of a server
end $$;
-- +goose StatementEnd
-- +goose StatementBegin
do $$
begin
    if not pg_has_role(current_user, 'freehold_audit_writer', 'member') then
        execute format('grant freehold_audit_writer to %I', current_user);
    end if;
end $$;
-- +goose StatementEnd
grant insert, select on audit_log to freehold_audit_writer;

-- +goose Down
drop table audit_log;
drop function audit_log_refuse, audit_log_chain;
