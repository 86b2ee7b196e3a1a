-- name: restore_email(user_id, email, email_key) -> value
-- Give the user this email, unverified. Return the id of the user, or null if they have it already.
update users
set email = $2, email_key = $3, email_verified_at = null, updated_at = now()
where id = $1 and email <> $2 and closed_at is null
returning id

-- name: has_newer_factor(user_id, digest) -> value
-- Return whether the second factor of the user is that of the reported notice, or is newer. A thief
-- may have turned it on after the notice. The owner may use the link of the older notice first, and
-- that revokes the link of the newer one.
select exists (
    select
    from users
    join one_time_tokens on one_time_tokens.digest = $2
    where users.id = $1
        and users.two_factor_since is not null
        and (
            one_time_tokens.data ->> 'notice' = 'two_factor_on'
            or users.two_factor_since >= one_time_tokens.created_at
        )
)

-- name: remove_password(user_id) -> one
-- Return the current email, and whether the account is locked.
update users
set password_hash = null, password_version = password_version + 1, updated_at = now()
where id = $1
returning email, email_key, locked_at is not null as is_locked

-- name: remove_newer_passkeys(user_id, digest) -> none
-- Delete the passkey that the reported notice told of, and each one that was added after it.
delete from passkeys
using one_time_tokens
where passkeys.user_id = $1
    and one_time_tokens.digest = $2
    and (
        passkeys.id = (one_time_tokens.data ->> 'passkey_id')::uuid
        or passkeys.created_at >= one_time_tokens.created_at
    )

-- name: remove_newer_identities(user_id, digest) -> none
-- Delete the identity that the reported notice told of, and each one that was linked after it.
-- Remember their issuers: a thief who still has the identity must not get it linked again.
with deleted as (
    delete from identities
    using one_time_tokens
    where identities.user_id = $1
        and one_time_tokens.digest = $2
        and (
            identities.id = (one_time_tokens.data ->> 'identity_id')::uuid
            or identities.created_at >= one_time_tokens.created_at
        )
    returning identities.issuer
)
update users
set unlinked_issuers = unlinked_issuers || array(select issuer from deleted)
where id = $1 and exists (select from deleted)

-- name: revoke_tokens(user_id, reported_digest) -> none
-- Delete the unused tokens of the user, except the reports older than the one with this digest.
delete from one_time_tokens
where user_id = $1
    and used_at is null
    and digest <> $2
    and (
        purpose <> 'report'
        or created_at >= (select created_at from one_time_tokens where digest = $2)
    )
