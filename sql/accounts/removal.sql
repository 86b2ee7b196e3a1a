-- name: turn_off(user_id) -> value
-- Remove the second factor of a user. Return their id, or null if it was off. The new version of
-- the credentials ends the logins that are not complete. Call sessions.lock_user in an earlier
-- statement.
with secrets as (
    delete from totp_secrets
    where user_id = $1
),
codes as (
    delete from recovery_codes
    where user_id = $1
),
-- The factor is no longer part of the proof of a session. That of a passkey has two factors.
proofs as (
    update sessions
    set amr = case
            when 'pop' = any (amr) then array_remove(amr, 'otp')
            else array_remove(array_remove(amr, 'otp'), 'mfa')
        end
    where user_id = $1 and ended_at is null and 'otp' = any (amr)
)
update users
set two_factor_since = null, password_version = password_version + 1
where id = $1 and two_factor_since is not null
returning id
