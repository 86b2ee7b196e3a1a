-- The security log. It has no foreign keys: the event that an account was deleted must outlive the
-- account. `user_id` is null if no account has the email that was tried.
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

-- The clean-up deletes failed logins of unknown accounts earlier than events that an owner can
-- read.
create index events_unknown_account_idx on events (created_at) where user_id is null;
