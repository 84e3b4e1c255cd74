-- What the chaos test's clients read and write. Every row carries the tenant it
-- was made for, so that a reader who sees another's row knows it.

-- +goose Up
CREATE TABLE registers (
  id     bigint PRIMARY KEY,
  value  bigint NOT NULL DEFAULT 0,
  tenant text NOT NULL
);

CREATE TABLE accounts (
  id      bigint PRIMARY KEY,
  balance bigint NOT NULL DEFAULT 0,
  tenant  text NOT NULL
);

-- No key on purpose: what is done twice is there twice.
CREATE TABLE entries (
  id      text NOT NULL,
  account bigint NOT NULL REFERENCES accounts,
  amount  bigint NOT NULL,
  tenant  text NOT NULL
);
CREATE INDEX entries_id ON entries (id);

-- What makes a tenant's copy take a moment.
CREATE TABLE ballast (what text NOT NULL);

-- +goose StatementBegin
CREATE FUNCTION cas(reg bigint, old bigint, new bigint) RETURNS registers LANGUAGE plpgsql AS $$
DECLARE
  was registers;
BEGIN
  SELECT * INTO STRICT was FROM registers r WHERE r.id = reg FOR UPDATE;
  IF was.value = old THEN
    UPDATE registers r SET value = new WHERE r.id = reg;
  END IF;
  RETURN was;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION cas(bigint, bigint, bigint) IS 'writes new if the value is old; returns the row as it was';

-- +goose StatementBegin
CREATE FUNCTION post(entry text, account bigint, amount bigint, tenant text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO entries VALUES (entry, account, amount, tenant);
  UPDATE accounts a SET balance = a.balance + post.amount WHERE a.id = post.account;
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION post, cas;
DROP TABLE ballast, entries, accounts, registers;
