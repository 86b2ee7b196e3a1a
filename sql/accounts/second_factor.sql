-- name: find_secret(user_id) -> row
select id, secret
from totp_secrets
where user_id = $1 and is_confirmed

-- name: accept_step(id, step) -> value
-- Accept the code of a time step, if it is later than that of each code before and the secret is
-- still in force. Return the id of the secret, or null: of simultaneous uses one succeeds.
update totp_secrets
set last_step = $2
where id = $1 and is_confirmed and last_step < $2
returning id
