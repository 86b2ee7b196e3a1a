-- Uniqueness does not regard case, nor different Unicode forms of one text. The service computes
-- the keys (NFKC, case folded), so that the answer does not depend on the database's locale.
create table users (
    id uuid primary key default gen_random_uuid(),
    username text not null,
    username_key text not null,
    email text not null,
    email_key text not null,
    password_hash text not null,
    bio text,
    image text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint users_username_key unique (username_key),
    constraint users_email_key unique (email_key)
);
