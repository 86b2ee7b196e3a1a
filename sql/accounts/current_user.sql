-- name: update(id, username, username_key, email, email_key, password_hash, set_bio, bio,
--     set_image, image) -> row
-- Null means "not given" for a column that cannot be null. bio and image have a flag each.
-- Call sessions.lock_user in an earlier statement, so that this statement sees the current row. If
-- this statement itself waited for another update, it would lock the row twice. The second lock is
-- the one that a new key needs. It would wait for other updates that wait for the first lock: a
-- deadlock.
with before as (
    select id, username, email, email_key
    from users
    where id = $1 and closed_at is null
)
update users
set username = coalesce($2, users.username),
    username_key = coalesce($3, users.username_key),
    email = coalesce($4, users.email),
    email_key = coalesce($5, users.email_key),
    email_verified_at = case
        when coalesce($4, before.email) = before.email then users.email_verified_at
    end,
    password_hash = coalesce($6, users.password_hash),
    password_version = users.password_version + case when $6 is null then 0 else 1 end,
    bio = case when $7 then $8 else users.bio end,
    image = case when $9 then $10 else users.image end,
    updated_at = now()
from before
where users.id = before.id
returning
    users.id, users.email, users.email_key, users.username, users.bio, users.image,
    users.email <> before.email as email_changed,
    users.username <> before.username as username_changed,
    before.email as old_email, before.email_key as old_email_key, users.ever_verified
