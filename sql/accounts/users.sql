-- name: find_id(email_key) -> value
select id
from users
where email_key = $1

-- name: find_credentials(id) -> row
select
    id, email, email_key, email_verified_at, username, bio, image, password_hash, password_version,
    two_factor_since, locked_at
from users
where id = $1 and closed_at is null

-- name: insert(username, username_key, email, email_key, password_hash) -> one
insert into users (username, username_key, email, email_key, password_hash)
values ($1, $2, $3, $4, $5)
returning
    id, email, email_key, ever_verified, username, bio, image, password_version, email_verified_at

-- name: renew_password_hash(id, old_hash, new_hash) -> none
-- Replace only the hash that was verified, so that a password change since then is kept.
update users
set password_hash = $3
where id = $1 and password_hash = $2
