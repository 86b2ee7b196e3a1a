-- name: confirm(user_id, email, email_key) -> row
-- Replace the email by one that is verified. Lock the user's row in an earlier statement, for the
-- reason that users.update names. Return the old email, and whether the account had a verified
-- email before. No row: the account is closed.
with before as (
    select id, email, email_key, ever_verified
    from users
    where id = $1 and closed_at is null
)
update users
set email = $2,
    email_key = $3,
    email_verified_at = now(),
    ever_verified = true,
    updated_at = now()
from before
where users.id = before.id
returning before.email as old_email, before.email_key as old_email_key, before.ever_verified
