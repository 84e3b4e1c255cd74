-- +goose Up

-- What operators sort tenants by, and rights over tenants go by.
alter table tenants add column labels jsonb not null default '{}' check (jsonb_typeof(labels) = 'object');
create index tenants_by_label on tenants using gin (labels jsonb_path_ops);

-- Tokens of machines for the admin API; package controlplane/identity writes and
-- reads them. Of the secret there is its SHA-256 alone.
create table access_tokens (
    id             text primary key check (id ~ '^[0-9a-f]{12}$'),
    name           text not null check (name <> ''),
    digest         bytea not null check (length(digest) = 32),
    grants         jsonb not null check (jsonb_typeof(grants) = 'array'),
    made_by        text not null,
    root           text not null, -- who answers for it: the first of the line of makers
    parent         text references access_tokens,
    created_at     timestamptz not null default clock_timestamp(),
    expires_at     timestamptz not null,
    revoked_at     timestamptz,
    revoked_by     text,
    last_used_at   timestamptz,
    last_used_from text not null default '',
    check (expires_at > created_at),
    check ((revoked_at is null) = (revoked_by is null))
);
create index access_tokens_by_parent on access_tokens (parent) where parent is not null;
create index access_tokens_by_age on access_tokens (expires_at);

-- Which person or group of an OpenID Connect issuer has which role where.
create table role_bindings (
    id         text primary key check (id ~ '^[0-9a-f]{12}$'),
    issuer     text not null check (issuer <> ''),
    kind       text not null check (kind in ('user', 'group')),
    subject    text not null check (subject <> ''),
    role_grant jsonb not null check (jsonb_typeof(role_grant) = 'object'),
    made_by    text not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz
);
create index role_bindings_by_subject on role_bindings (issuer, kind, subject);

-- People's time-boxed access to tenants' databases; package controlplane/breakglass.
create table break_glass (
    id           uuid primary key,
    tenant       text not null references tenants,
    database     text not null check (database ~ '^t_[0-9a-f]{16}$'),
    works_as     text not null check (works_as in ('owner', 'rw', 'ro')),
    reason       text not null,
    seconds      integer not null check (seconds > 0),
    state        text not null check (state in ('waiting', 'approved', 'open', 'ending', 'ended')),
    asked_by     text not null,
    asked_root   text not null,
    asked_at     timestamptz not null default clock_timestamp(),
    approved_by  text,
    approved_at  timestamptz,
    login        text unique check (login like 't\_%\_tmp\_%'),
    opened_at    timestamptz,
    expires_at   timestamptz not null, -- of the login; before it is opened, of the request
    ended_at     timestamptz,
    ended_by     text,
    end_cause    text not null default '',
    sessions     integer not null default 0,
    last_used_at timestamptz,
    constraint break_glass_login check ((login is not null) = (opened_at is not null)),
    constraint break_glass_ended check ((ended_at is not null) = (state = 'ended'))
);
create index break_glass_live on break_glass (expires_at) where state <> 'ended';
create index break_glass_by_tenant on break_glass (tenant, id);

-- What was seen stays seen, and what has ended stays ended.
-- +goose StatementBegin
create function break_glass_change() returns trigger language plpgsql as $$
begin
    if old.state = 'ended' or (old.login is not null and new.login is distinct from old.login)
        or (old.state = 'ending' and new.state not in ('ending', 'ended')) or (old.state = 'open' and new.state in ('waiting', 'approved')) then
        raise exception 'break-glass access %: from % to % is no transition', old.id, old.state, new.state
            using errcode = 'check_violation', constraint = 'break_glass_change';
    end if;
    return new;
end $$;
-- +goose StatementEnd
create trigger break_glass_change before update on break_glass for each row execute function break_glass_change();
create trigger break_glass_stay before delete or truncate on break_glass for each statement execute function refuse();

-- +goose Down
drop table break_glass, role_bindings, access_tokens;
drop function break_glass_change;
drop index tenants_by_label;
alter table tenants drop column labels;
