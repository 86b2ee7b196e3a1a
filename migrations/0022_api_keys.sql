-- API keys of administrators and of other services. A revoked key stays: its name is in the
-- security log, and no other key gets it.
create table api_keys (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    -- The SHA-256 digest of the key. The key itself is not stored.
    digest bytea not null,
    scopes text[] not null,
    created_at timestamptz not null default clock_timestamp(),
    -- The latest use, at most an hour late.
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint api_keys_name_key unique (name),
    -- The request log has the name, and its JSON needs no escaping.
    constraint api_keys_name_check check (name ~ '^[a-z0-9][a-z0-9._-]{0,49}$'),
    constraint api_keys_digest_key unique (digest)
);

alter table events
    -- The administrator who caused the event: the name of an API key, or `cli`. Null for any other.
    add column actor text;

create index events_actor_idx on events (actor, id) where actor is not null;
