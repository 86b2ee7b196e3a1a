-- name: find_account(email_key, unknown_id, ip_key, known_ttl) -> one
-- Return the id of the user, or `unknown_id` for an email without a user, and whether the user
-- signed in from this IP address within `known_ttl` seconds. Both cases take the same work.
select
    account.id,
    exists (
        select
        from known_ips
        where user_id = account.id
            and ip_key = $3
            and last_seen > now() - make_interval(secs => $4::integer)
    ) as is_known_ip
from (select coalesce((select id from users where email_key = $1), $2::uuid) as id) as account

-- name: set_password(user_id, email, password_hash) -> value
-- Replace the password and verify the email, if the email is still the current one. Return the id
-- of the user, or null. A locked account is not changed.
update users
set password_hash = $3,
    password_version = password_version + 1,
    email_verified_at = coalesce(email_verified_at, now()),
    ever_verified = true,
    -- Another person may have unlinked those of an account that was never verified.
    unlinked_issuers = case when ever_verified then unlinked_issuers else '{}' end,
    updated_at = now()
where id = $1 and email = $2 and closed_at is null and locked_at is null
returning id
