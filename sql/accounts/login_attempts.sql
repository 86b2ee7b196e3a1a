-- The counters are rows of `throttle`. Every statement locks them in the order of their keys, so
-- that no two logins deadlock. `windows` are the `ends_at` that `admit` returned: an attempt of an
-- earlier window changes nothing in the current one.

-- name: admit(email_key, account_id, suffixes, are_of_account, are_wide, max_counts, seconds,
--     ip_key, known_ttl, max_failures, lease) -> one
-- Find the user with this email, or take `account_id` if there is none. Admit an attempt under all
-- of its keys or none: see the function `throttle_reserve`. A key is its suffix, after the id of
-- the account if it is one `of_account`. The `wide` limits do not apply at an IP address from which
-- the user signed in within `known_ttl` seconds, and do not count its attempts. Return all keys if
-- the attempt `is_admitted`. Otherwise return the keys whose limit is full: by failures alone if
-- `retry_after` is not null, or with attempts in flight.
-- Return the columns of the user as they are after the attempt was admitted: their password may
-- change while the statement waits for a counter. They are null if no user has the id. `is_locked`
-- tells whether the user had `max_failures` failed logins in a row, and did not sign in from this
-- IP address within `known_ttl` seconds. No login is locked if `max_failures` is null.
-- Starts with `with` because it writes: it must not be repeated after a lost connection.
with account as materialized (
    select coalesce((select id from users where email_key = $1), $2::uuid) as id
),
known as materialized (
    select exists (
        select
        from account
        join known_ips on known_ips.user_id = account.id
        where known_ips.ip_key = $8
            and known_ips.last_seen > now() - make_interval(secs => $9::integer)
    ) as is_known
),
wanted as (
    select
        array_agg(
            case when given.is_of_account then uuid_send(account.id) else '' end || given.suffix
        ) as keys,
        array_agg(given.max_count) as max_counts,
        array_agg(given.seconds) as seconds
    from unnest($3::bytea[], $4::boolean[], $5::boolean[], $6::integer[], $7::integer[])
        as given (suffix, is_of_account, is_wide, max_count, seconds)
    cross join account
    cross join known
    where not (given.is_wide and known.is_known)
),
attempt as materialized (
    select
        array_agg(reserved.key order by reserved.key) as keys,
        array_agg(reserved.ends_at order by reserved.key) as windows,
        coalesce(bool_and(reserved.admitted), true) as is_admitted,
        max(reserved.retry_after) filter (where reserved.refused) as retry_after
    from wanted
    cross join throttle_reserve(wanted.keys, wanted.max_counts, wanted.seconds, $11) as reserved
)
select
    account.id as account_id,
    coalesce(attempt.keys, '{}') as keys,
    coalesce(attempt.windows, '{}') as windows,
    attempt.is_admitted, attempt.retry_after,
    owner.id, owner.email, owner.email_key, owner.email_verified_at, owner.username, owner.bio,
    owner.image, owner.password_hash, owner.password_version, owner.two_factor_since,
    owner.locked_at,
    coalesce(consecutive_failures.failures >= $10::integer, false) and not known.is_known
        as is_locked
from account
cross join known
cross join attempt
left join find_user_now(case when attempt.is_admitted then account.id end) as owner on true
left join consecutive_failures on consecutive_failures.user_id = owner.id

-- name: record_failure(keys, windows) -> rows
-- Count a wrong password.
with held as (
    select throttle.key
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as reserved (key, ends_at)
        on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
)
update throttle
set in_flight = greatest(throttle.in_flight - 1, 0),
    hits = throttle.hits + 1
from held
where throttle.key = held.key
returning throttle.key, throttle.hits as failures

-- name: release(keys, windows) -> none
-- Release an attempt whose password was not verified. A row that then counts nothing is deleted:
-- otherwise an attacker could invent emails without end, and each would leave a row.
with held as (
    select throttle.key, throttle.hits + throttle.in_flight <= 1 as is_last
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as reserved (key, ends_at)
        on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
),
kept as (
    update throttle
    set in_flight = greatest(throttle.in_flight - 1, 0)
    from held
    where throttle.key = held.key and not held.is_last
)
delete from throttle
using held
where throttle.key = held.key and held.is_last

-- name: record_success(keys, windows, pair_key, account_id, ip_key, known_ttl,
--     max_failures) -> value
-- Return whether the success counts: see the function `record_login_success`. Starts with `with`
-- because it writes: it must not be repeated after a lost connection.
with outcome as materialized (
    select record_login_success($1, $2, $3, $4, $5, $6, $7) as counts
)
select counts
from outcome
