alter table users
    -- When an administrator locked the account, null otherwise.
    add column locked_at timestamptz,
    add constraint users_locked_at_check check (closed_at is null or locked_at is null);
