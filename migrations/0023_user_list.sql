-- An administrator lists the accounts, the newest first.
create index users_created_at_idx on users (created_at, id) where closed_at is null;
