-- A session is one device that logged in. The row of an ended session stays until no access token
-- of it can be valid, so that the device gets the reason. Then the clean-up deletes it.
create table sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    -- When an access token last updated `last_used_at`: see sessions.touch.
    touched_at timestamptz,
    expires_at timestamptz not null,
    -- A session that is not refreshed expires at this time. All current refresh tokens of a session
    -- expire together, so the time is stored once here and not with each token.
    idle_expires_at timestamptz not null,
    -- The number of refreshes. Refresh tokens of this generation are current. Those of the previous
    -- generation are accepted for a grace period after `rotated_at`. Older ones are reused.
    generation integer not null default 0,
    rotated_at timestamptz not null default now(),
    ip text,
    user_agent text,
    ended_at timestamptz,
    -- The kind of the event that ended the session.
    end_reason text,
    constraint sessions_ended_at_end_reason_check
        check ((ended_at is null) = (end_reason is null))
);

-- A refresh changes none of these columns, so it updates no index.
create index sessions_user_id_idx on sessions (user_id);
create index sessions_expires_at_idx on sessions (expires_at);
create index sessions_ended_at_idx on sessions (ended_at) where ended_at is not null;


-- The table has only the SHA-256 digest of a token: a reader of the table cannot log in with it.
-- Tokens are deleted together with their session. No query looks for expired tokens.
create table refresh_tokens (
    digest bytea primary key,
    session_id uuid not null references sessions on delete cascade,
    generation integer not null
);

create index refresh_tokens_session_id_idx on refresh_tokens (session_id);


create trigger sessions_ended_notify
after update of ended_at, expires_at on sessions
for each row
when ((old.ended_at, old.expires_at) is distinct from (new.ended_at, new.expires_at))
execute function notify_account('session');

-- Closing an account has already invalidated its sessions in every process.
create function notify_deleted_session() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', 'session:' || old.id)
    from users
    where id = old.user_id and closed_at is null;
    return null;
end
$$;

-- Sessions that were ended or expired before need no notification. When a user is deleted, the
-- cascade deletes their sessions, and the notification of the user is enough.
create trigger sessions_deleted_notify
after delete on sessions
for each row
when (old.ended_at is null and old.expires_at > now() and pg_trigger_depth() = 0)
execute function notify_deleted_session();

-- An administrator may truncate the table. That fires no row triggers.
create trigger sessions_truncated_notify
after truncate on sessions
for each statement
execute function notify_all_accounts();
