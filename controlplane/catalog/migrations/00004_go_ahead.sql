-- +goose Up

-- An operation may wait for somebody to say that it may go on: a move that is
-- to cut over by hand. go_at is when that was said.
alter table operations add column go_at timestamptz;

-- +goose Down
alter table operations drop column go_at;
