-- name: has_account(user_id) -> value
select exists (select from users where id = $1 and closed_at is null)
