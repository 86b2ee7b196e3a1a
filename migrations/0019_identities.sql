-- An identity is an account at an identity provider: issuer and subject, never an email. A user has
-- at most one at each issuer.
create table identities (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    issuer text not null,
    subject text not null,
    -- As the provider last said. The email of the account is another one.
    email text,
    is_email_verified boolean not null,
    -- Whether the account was registered with this identity and an email that was not verified. The
    -- owner of the email may be another person, who verifies it later.
    is_unproved boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    last_used_at timestamptz not null default clock_timestamp(),
    constraint identities_issuer_subject_key unique (issuer, subject),
    constraint identities_user_id_issuer_key unique (user_id, issuer)
);

-- The issuers at which the user had an identity that they unlinked or reported. Another identity
-- there is linked only on request: the person who has it may have been the reason.
alter table users
    add column unlinked_issuers text[] not null default '{}';
