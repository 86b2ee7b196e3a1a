-- name: find_facts(issuer, subject, email_key, user_id) -> one
-- What decides about a sign-in: the user who has the identity, and the account. That is the account
-- of the email, or of the user who is signed in.
select
    identities.user_id as identity_user_id,
    account.id as account_user_id,
    account.email as account_email,
    account.email_verified_at is not null as is_verified,
    account.ever_verified,
    given.issuer = any (account.unlinked_issuers) as was_unlinked,
    exists (
        select
        from identities as other
        where other.user_id = account.id and other.issuer = $1
    ) as has_other_subject
from (
    select
        $1::text as issuer, $2::text as subject, $3::text as email_key, $4::uuid as user_id
) as given
left join identities
    on identities.issuer = given.issuer and identities.subject = given.subject
left join users as account
    on account.email_key = given.email_key or account.id = given.user_id

-- name: find_taken(username_keys) -> rows
select username_key
from users
where username_key = any ($1::text[])

-- name: insert_user(username, username_key, email, email_key, image, is_verified) -> one
insert into users (
    username, username_key, email, email_key, image, email_verified_at, ever_verified
)
values ($1, $2, $3, $4, $5, case when $6::boolean then now() end, $6)
returning
    id, email, email_key, ever_verified, username, bio, image, password_version, email_verified_at

-- name: take_over(user_id) -> none
-- Remove the password of an account whose email was never verified, and verify the email.
update users
set password_hash = null,
    password_version = password_version + 1,
    email_verified_at = now(),
    ever_verified = true,
    -- Another person has unlinked these.
    unlinked_issuers = '{}',
    updated_at = now()
where id = $1
