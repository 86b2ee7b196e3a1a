-- name: find_status(user_id) -> one
select
    users.two_factor_since,
    (select count(*) from recovery_codes where user_id = users.id) as recovery_codes_left
from users
where users.id = $1

-- name: begin(user_id, secret) -> none
-- Store a secret that is not confirmed yet, in place of one of an earlier enrolment. The secret in
-- force stays.
insert into totp_secrets (user_id, secret)
values ($1, $2)
on conflict (user_id, is_confirmed) do update
set id = excluded.id, secret = excluded.secret, created_at = now()

-- name: find_pending(user_id, ttl) -> row
-- Return the secret that has waited for a code for less than `ttl` seconds.
select id, secret
from totp_secrets
where user_id = $1
    and not is_confirmed
    and created_at > now() - make_interval(secs => $2::integer)

-- name: delete_confirmed(user_id) -> none
delete from totp_secrets
where user_id = $1 and is_confirmed

-- name: confirm(id, user_id, step) -> row
-- Put a pending secret into force, unless another enrolment has replaced it. The code that confirms
-- it is used. The new version of the credentials ends the logins that are not complete. Call
-- sessions.lock_user and delete_confirmed in earlier statements. `was_on` tells whether the factor
-- was on before. `two_factor_since` is the current time and not the start of the transaction, so
-- that it is later than every report that was issued before.
with confirmed as (
    update totp_secrets
    set is_confirmed = true, last_step = $3
    where id = $1 and user_id = $2 and not is_confirmed
    returning user_id
),
before as (
    select users.id, users.two_factor_since
    from users
    join confirmed on confirmed.user_id = users.id
)
update users
set two_factor_since = clock_timestamp(),
    password_version = users.password_version + 1
from before
where users.id = before.id
returning before.two_factor_since is not null as was_on

-- name: add_to_proof(session_id) -> none
-- The person of the session has proved the second factor too. The time of the proof stays.
update sessions
set amr = array_remove(array_remove(amr, 'otp'), 'mfa') || '{otp,mfa}'::text[]
where id = $1
