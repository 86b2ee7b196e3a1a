-- name: find(user_id) -> row
select
    id, email, email_key, email_verified_at is not null as is_verified, ever_verified, locked_at
from users
where id = $1 and closed_at is null

-- name: verify(user_id, email) -> value
-- Verify the email if it is still the current one. Return the id of the user, or null.
update users
set email_verified_at = coalesce(email_verified_at, now()), ever_verified = true
where id = $1 and email = $2 and closed_at is null
returning id
