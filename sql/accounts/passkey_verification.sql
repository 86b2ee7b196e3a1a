-- name: insert_challenge(digest, purpose, ttl) -> none
insert into one_time_tokens (digest, purpose, expires_at)
values ($1, $2, now() + make_interval(secs => $3::integer))

-- name: find(credential_id) -> row
select passkeys.id, passkeys.user_id, passkeys.public_key
from passkeys
join users on users.id = passkeys.user_id
where passkeys.credential_id = $1 and users.closed_at is null

-- name: use(id, user_id, sign_count) -> value
-- Store the counter of a login if it is above the stored one, or if the authenticator does not
-- count. Of simultaneous logins with one counter, one gets a row.
update passkeys
set sign_count = $3, last_used_at = now()
where id = $1 and user_id = $2 and (sign_count < $3 or (sign_count = 0 and $3 = 0))
returning id

-- name: find_user(id, user_id) -> row
-- Return the user as of now while they have this passkey.
select
    users.id, users.email, users.email_key, users.username, users.bio, users.image,
    users.password_version, users.email_verified_at, users.two_factor_since, users.locked_at
from passkeys
join users on users.id = passkeys.user_id
where passkeys.id = $1 and passkeys.user_id = $2 and users.closed_at is null
