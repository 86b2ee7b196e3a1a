-- name: lock(user_id) -> value
-- Return the id of the user, or null if the account was locked before or is closed. Call
-- sessions.lock_user in an earlier statement.
update users
set locked_at = now()
where id = $1 and locked_at is null and closed_at is null
returning id

-- name: unlock(user_id) -> value
-- Return the id of the user, or null if the account was not locked.
update users
set locked_at = null
where id = $1 and locked_at is not null
returning id

-- name: is_locked(user_id, password_version) -> value
-- Return null if the user has another version of the password by now.
select locked_at is not null
from users
where id = $1 and password_version = $2
