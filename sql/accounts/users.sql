-- name: find_by_email(email_key) -> row
select id, email, username, bio, image, password_hash
from users
where email_key = $1

-- name: taken(username_key, email_key, except_id) -> row
-- A courtesy that saves a hash and names both fields; the constraints are what decides.
select
    exists (select from users where username_key = $1 and id is distinct from $3) as username,
    exists (select from users where email_key = $2 and id is distinct from $3) as email

-- name: insert(username, username_key, email, email_key, password_hash) -> row
insert into users (username, username_key, email, email_key, password_hash)
values ($1, $2, $3, $4, $5)
returning id, email, username, bio, image

-- name: update(id, username, username_key, email, email_key, password_hash, set_bio, bio, set_image, image) -> row
-- Null stands for "not given" where a column can't be null; the others say so beside their value.
update users
set username = coalesce($2, username),
    username_key = coalesce($3, username_key),
    email = coalesce($4, email),
    email_key = coalesce($5, email_key),
    password_hash = coalesce($6, password_hash),
    bio = case when $7 then $8 else bio end,
    image = case when $9 then $10 else image end,
    updated_at = now()
where id = $1
returning id, email, username, bio, image

-- name: renew_password_hash(id, old_hash, new_hash) -> value
-- Only over the hash that was verified: a password changed in between stays changed.
update users
set password_hash = $3
where id = $1 and password_hash = $2
returning password_hash

-- name: delete(id, password_hash) -> value
-- Only while the hash is still the one that was verified.
delete from users
where id = $1 and password_hash = $2
returning id
