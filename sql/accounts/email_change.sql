-- name: confirm(user_id, email, email_key) -> value
-- Replace the email by one that is verified. Lock the user's row in an earlier statement, for the
-- reason that users.update names. Return the id of the user, or null if the account is closed.
update users
set email = $2,
    email_key = $3,
    email_verified_at = now(),
    ever_verified = true,
    updated_at = now()
where id = $1 and closed_at is null
returning id
