-- +goose Up

-- Plans are kept packed (zstd of the JSON): one of 100,000 moves has tens of
-- megabytes of sentences that differ in names and figures. Those that were kept before stay as they are.
alter table rebalance_plans alter column plan drop not null, add column packed bytea,
    add constraint rebalance_plans_one check (num_nonnulls(plan, packed) = 1);
alter table rebalance_plans alter column packed set storage external;

-- What failed and what arrived lately, by tenant: one whose moves fail again and again rests.
create index rebalance_moves_failed on rebalance_moves (ended_at) where state = 'failed';
create index rebalance_moves_of_tenant on rebalance_moves (tenant, ended_at) where state = 'moved';

-- +goose Down
drop index rebalance_moves_of_tenant, rebalance_moves_failed;
delete from rebalance_plans where plan is null;
alter table rebalance_plans drop constraint rebalance_plans_one, drop column packed, alter column plan set not null;
