-- name: list(user_id) -> rows
select id, credential_id, transports, name, created_at, last_used_at
from passkeys
where user_id = $1
order by created_at, id

-- name: rename(id, user_id, name) -> row
update passkeys
set name = $3
where id = $1 and user_id = $2
returning id, name, created_at, last_used_at

-- name: delete(id, user_id) -> value
delete from passkeys
where id = $1 and user_id = $2
returning id

-- name: end_proofs(user_id, except_session_id) -> none
-- The passkey of a proof is not known, so the proofs of all passkeys end in the other sessions.
update sessions
set amr = array_remove(array_remove(amr, 'pop'), 'mfa'), auth_time = to_timestamp(0)
where user_id = $1 and id <> $2 and 'pop' = any (amr) and ended_at is null

-- name: delete_all(user_id) -> none
delete from passkeys
where user_id = $1
