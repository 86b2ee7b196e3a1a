-- The second factor of an account: an authenticator app (TOTP, RFC 6238) and recovery codes.
alter table users
    -- When the current second factor was turned on, null without one.
    add column two_factor_since timestamptz,
    add constraint users_two_factor_since_check check (
        closed_at is null or two_factor_since is null
    );

-- A changed factor is known to every process at once.
create trigger users_two_factor_changed_notify
after update of two_factor_since on users
for each row
when (old.two_factor_since is distinct from new.two_factor_since)
execute function notify_account('user');


-- A user has at most one secret in force and one that waits for its first code.
create table totp_secrets (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    -- Encrypted with a key of ENCRYPTION_KEYS. The first four bytes are the id of the key.
    secret bytea not null,
    is_confirmed boolean not null default false,
    created_at timestamptz not null default now(),
    -- The time step of the last accepted code. Only a code of a later step is accepted.
    last_step bigint not null default -1,
    constraint totp_secrets_user_id_is_confirmed_key unique (user_id, is_confirmed)
);


-- The unused recovery codes. The table has only the SHA-256 digest of a code: a reader of the table
-- cannot use it. A used code is deleted.
create table recovery_codes (
    user_id uuid not null references users on delete cascade,
    digest bytea not null,
    primary key (user_id, digest)
);
