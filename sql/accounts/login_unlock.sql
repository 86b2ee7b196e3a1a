-- name: find_credentials(id, ip_key, known_ttl, max_failures) -> row
-- `is_locked` tells whether the user had `max_failures` failed logins in a row, and did not sign in
-- from this IP address within `known_ttl` seconds. No login is locked if `max_failures` is null.
select
    users.id, users.email, users.email_key, users.email_verified_at, users.username, users.bio,
    users.image, users.password_hash, users.password_version, users.two_factor_since,
    users.locked_at,
    coalesce(consecutive_failures.failures >= $4::integer, false) and not exists (
        select
        from known_ips
        where user_id = $1
            and ip_key = $2
            and last_seen > now() - make_interval(secs => $3::integer)
    ) as is_locked
from users
left join consecutive_failures on consecutive_failures.user_id = users.id
where users.id = $1 and users.closed_at is null

-- name: count_failure(user_id, ip_key, known_ttl, max_failures, mail_interval) -> row
-- Lock the user's row. Count a failed login, unless the IP address is known or `max_failures` is
-- null. `is_mail_due` tells whether the login is locked now, and no mail was queued for
-- `mail_interval` seconds: the caller must queue one. It is never due if `mail_interval` is null.
-- Return no row if nothing is counted.
-- `is_counted` is a column of the locked row: as a condition outside it, PostgreSQL would check it
-- first, and lock nothing if it is false.
with owner as (
    select
        id,
        $4::integer is not null and not exists (
            select
            from known_ips
            where user_id = $1
                and ip_key = $2
                and last_seen > now() - make_interval(secs => $3::integer)
        ) as is_counted
    from users
    where id = $1 and closed_at is null
    for no key update
)
insert into consecutive_failures (user_id, failures, mailed_at)
select id, 1, case when $4::integer <= 1 and $5::integer is not null then now() end
from owner
where is_counted
on conflict (user_id) do update
set failures = least(consecutive_failures.failures + 1, 1000000),
    mailed_at = case
        when consecutive_failures.failures + 1 >= $4::integer
            and coalesce(consecutive_failures.mailed_at, '-infinity')
                <= now() - make_interval(secs => $5::integer)
        then now()
        else consecutive_failures.mailed_at
    end
returning failures, mailed_at is not distinct from now() as is_mail_due

-- name: allow_mail(user_id) -> none
-- Make a mail due with the next failed login of a locked account. Call this when the links in the
-- earlier mails are revoked, so that the owner gets a valid one.
update consecutive_failures
set mailed_at = null
where user_id = $1

-- name: unlock(user_id) -> none
delete from consecutive_failures
where user_id = $1
