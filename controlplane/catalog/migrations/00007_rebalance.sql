-- +goose Up

-- The fleet's coordinator of moves, package controlplane/rebalance. The row's
-- lock makes those who would begin a run wait for each other: there is at most one.
create table rebalance_state (
    one_row       boolean primary key default true check (one_row),
    auto          boolean not null default false, -- runs begin by themselves
    auto_by       text not null default '',
    auto_reason   text not null default '',
    auto_at       timestamptz,
    looked_at     timestamptz, -- when auto mode looked for something to do, and what it found then
    says          text not null default '',
    memory        json not null default '{}', -- what it has to know of earlier looks
    paused_at     timestamptz, -- no move begins
    paused_by     text not null default '',
    paused_reason text not null default ''
);
insert into rebalance_state default values;
create trigger rebalance_state_stays before delete or truncate on rebalance_state for each statement execute function refuse();

-- The moves of runs, in the order in which they may begin. Those that are left
-- are replaced when a run plans anew.
create table rebalance_moves (
    run        uuid not null references operations on delete cascade,
    n          integer not null check (n > 0),
    tenant     text not null references tenants,
    from_shard text not null references shards,
    to_shard   text not null references shards,
    bytes      float8 not null,
    kind       text not null,
    why        text not null,
    state      text not null default 'left' check (state in ('left', 'running', 'moved', 'failed', 'given-up')),
    operation  uuid references operations, -- the move
    begun_at   timestamptz,
    ended_at   timestamptz,
    error      text not null default '',
    primary key (run, n),
    constraint rebalance_moves_begun check ((state in ('running', 'moved', 'failed')) = (operation is not null))
);
create unique index rebalance_moves_operation on rebalance_moves (operation) where operation is not null;
create unique index rebalance_moves_one_each on rebalance_moves (run, tenant) where state in ('left', 'running');
create index rebalance_moves_by_state on rebalance_moves (run, state, n);
create index rebalance_moves_begun on rebalance_moves (begun_at) where begun_at is not null;

-- Shards that are being emptied, and what they are again if that is taken back.
create table shard_drains (
    shard    text primary key references shards on delete cascade,
    was      text not null check (was in ('active', 'cordoned')),
    begun_by text not null,
    reason   text not null default '',
    begun_at timestamptz not null default clock_timestamp()
);

-- +goose Down
drop table shard_drains, rebalance_moves, rebalance_state;
