-- An email is verified when its owner has used a mailed link. Another email begins unverified.
alter table users
    add column email_verified_at timestamptz,
    -- Whether the account ever had a verified email. A stranger whose email was registered may
    -- delete only an account that never had one.
    add column ever_verified boolean not null default false,
    add constraint users_ever_verified_check check (email_verified_at is null or ever_verified);


-- Tokens that are mailed to the owner of an account and used once. The table has only the SHA-256
-- digest of a token: a reader of the table cannot use it.
create table one_time_tokens (
    digest bytea primary key,
    -- A query for another purpose does not find the token.
    purpose text not null,
    user_id uuid not null references users on delete cascade,
    -- The email that the token is about. It is not always the current email of the user.
    email text not null,
    email_key text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);

create index one_time_tokens_user_id_purpose_idx on one_time_tokens (user_id, purpose);
create index one_time_tokens_expires_at_idx on one_time_tokens (expires_at);
