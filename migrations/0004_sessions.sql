-- A session is one device that signed in. Ended ones stay for a while, so that the device can be
-- told why; the clean-up takes them away.
create table sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- Counts the refreshes. Tokens of this generation are live; those of the one before it are
    -- honoured for a moment after `advanced_at`; older ones are stolen or lost.
    generation integer not null default 0,
    advanced_at timestamptz not null default now(),
    ip text,
    user_agent text,
    ended_at timestamptz,
    -- The kind of event that ended it.
    end_reason text,
    constraint sessions_ended_check check ((ended_at is null) = (end_reason is null))
);

-- None of these columns changes at a refresh, which therefore touches no index.
create index sessions_user_id_idx on sessions (user_id);
create index sessions_expires_at_idx on sessions (expires_at);
create index sessions_ended_at_idx on sessions (ended_at) where ended_at is not null;

-- Only the SHA-256 digest: who reads this table can't sign in with it.
create table refresh_tokens (
    digest bytea primary key,
    session_id uuid not null references sessions on delete cascade,
    generation integer not null,
    expires_at timestamptz not null
);

create index refresh_tokens_session_id_idx on refresh_tokens (session_id);
create index refresh_tokens_expires_at_idx on refresh_tokens (expires_at);

-- The security log. Nothing refers to it and it refers to nothing: that an account was deleted
-- outlives the account. `user_id` is null where nobody has the address that was tried.
create table events (
    id bigint generated always as identity primary key,
    user_id uuid,
    kind text not null,
    created_at timestamptz not null default now(),
    ip text,
    user_agent text,
    session_id uuid
);

create index events_user_id_idx on events (user_id, id);
create index events_created_at_idx on events (created_at);

-- What a process may have remembered and must forget, told on the channel `accounts` as
-- `user:<id>` or `session:<id>`. Rare by design: a notification takes a lock at commit, so a sign-in
-- and a refresh send none. A deleted user's sessions are not told one by one.
create function notify_account() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', tg_argv[0] || ':' || old.id);
    return null;
end
$$;

create trigger users_changed_notify
after update of email, username, bio, image on users
for each row
when (
    (old.email, old.username, old.bio, old.image)
    is distinct from (new.email, new.username, new.bio, new.image)
)
execute function notify_account('user');

create trigger users_deleted_notify
after delete on users
for each row
execute function notify_account('user');

create trigger sessions_ended_notify
after update of ended_at, expires_at on sessions
for each row
when ((old.ended_at, old.expires_at) is distinct from (new.ended_at, new.expires_at))
execute function notify_account('session');

-- Not for those that had ended or expired anyway, and not below the deletion of their user.
create trigger sessions_deleted_notify
after delete on sessions
for each row
when (old.ended_at is null and old.expires_at > now() and pg_trigger_depth() = 0)
execute function notify_account('session');
