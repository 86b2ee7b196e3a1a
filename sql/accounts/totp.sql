-- name: list_outdated(key_id, after, limit) -> rows
-- Return at most `limit` secrets that another key than `key_id` encrypted, with ids above `after`.
select id, user_id, secret
from totp_secrets
where substring(secret from 1 for 4) <> $1 and id > $2
order by id
limit $3

-- name: replace_ciphertext(id, old_secret, new_secret) -> value
-- Replace a secret with the same one under another key. Return its id, or null if it has changed.
update totp_secrets
set secret = $3
where id = $1 and secret = $2
returning id
