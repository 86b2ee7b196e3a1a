-- A passkey is a key pair of WebAuthn. The private key never leaves the authenticator.
create table passkeys (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    -- The authenticator's name of the key pair. A login finds the account by it.
    credential_id bytea not null,
    -- In COSE form (RFC 9053).
    public_key bytea not null,
    -- The counter of the latest login, 0 if the authenticator does not count.
    sign_count bigint not null,
    -- How a browser reaches the authenticator (WebAuthn Level 3, section 5.8.4).
    transports text[] not null,
    -- Only the owner sees the name.
    name text not null,
    created_at timestamptz not null default clock_timestamp(),
    last_used_at timestamptz,
    constraint passkeys_credential_id_key unique (credential_id)
);

create index passkeys_user_id_idx on passkeys (user_id);

-- The challenge of a login with a passkey has no user yet. The clean-up deletes it once it has
-- expired.
create index one_time_tokens_anonymous_idx on one_time_tokens (expires_at) where user_id is null;
