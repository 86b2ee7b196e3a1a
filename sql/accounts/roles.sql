-- name: find(user_id) -> value
-- Return null if the account is closed. A transaction that changes the roles calls
-- sessions.lock_user in an earlier statement.
select roles
from users
where id = $1 and closed_at is null

-- name: replace(user_id, roles) -> none
update users
set roles = $2
where id = $1 and closed_at is null
