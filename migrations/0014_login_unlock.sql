-- Failed logins in a row on one account since its last login, from IP addresses that are not known.
-- The row is locked after the row of its user and before the counters in `throttle`.
create table consecutive_failures (
    user_id uuid primary key references users on delete cascade,
    failures integer not null,
    -- When the latest mail with a link that unlocks the login was queued.
    mailed_at timestamptz
);
