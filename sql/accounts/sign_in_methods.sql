-- name: has_one(user_id) -> value
-- Return whether the user can sign in: with a password or a passkey.
select
    password_hash is not null or exists (select from passkeys where passkeys.user_id = users.id)
from users
where id = $1
