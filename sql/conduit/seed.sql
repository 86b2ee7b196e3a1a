-- name: has_users() -> value
select exists (select from users)

-- name: introduce(id, bio) -> one
update users
set bio = $2
where id = $1
returning id, username
