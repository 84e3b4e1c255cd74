-- +goose Up

-- What somebody asked of an operation since it began, in its kind's own words:
-- a rate for a copy that is under way. Whoever works on it reads it; its
-- document is the worker's alone.
alter table operations add column asked jsonb;

-- +goose Down
alter table operations drop column asked;
