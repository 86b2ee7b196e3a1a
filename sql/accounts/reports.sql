-- name: restore_email(user_id, email, email_key) -> value
-- Give the user this email, unverified. Return the id of the user, or null if they have it already.
update users
set email = $2, email_key = $3, email_verified_at = null, updated_at = now()
where id = $1 and email <> $2 and closed_at is null
returning id

-- name: remove_password(user_id) -> one
-- Return the current email.
update users
set password_hash = null, password_version = password_version + 1, updated_at = now()
where id = $1
returning email, email_key

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
