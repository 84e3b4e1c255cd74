-- +goose Up

-- What the right of who asked for an access hangs on: the access token that he
-- asked with, and the bindings without any of which he could not have. When it
-- is gone, so is the access.
alter table break_glass add column token text, add column bindings text[] not null default '{}';

-- +goose Down
alter table break_glass drop column token, drop column bindings;
