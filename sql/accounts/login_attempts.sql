-- The counters are rows of `throttle`. Every statement locks them in the order of their keys, so
-- that no two logins deadlock. `windows` are the `ends_at` that `reserve` returned: an attempt of
-- an earlier window changes nothing in the current one.

-- name: reserve(keys, max_counts, seconds, wide_keys, account_id, ip_key, known_ttl, lease) -> rows
-- Admit an attempt under all keys or none: see the function `throttle_reserve`. The limits of
-- `wide_keys` do not apply at an IP address from which the user signed in within `known_ttl`
-- seconds, and do not count its attempts. Return all keys if the attempt is `admitted`. Otherwise
-- return the keys whose limit is full: by failures alone (`refused`), or with attempts in flight.
-- Starts with `with` because it writes: it must not be repeated after a lost connection.
with wanted as (
    select
        array_agg(given.key) as keys,
        array_agg(given.max_count) as max_counts,
        array_agg(given.seconds) as seconds
    from unnest($1::bytea[], $2::integer[], $3::integer[]) as given (key, max_count, seconds)
    where given.key <> all ($4::bytea[]) or not exists (
        select
        from known_ips
        where user_id = $5
            and ip_key = $6
            and last_seen > now() - make_interval(secs => $7::integer)
    )
)
select attempt.key, attempt.ends_at, attempt.admitted, attempt.refused, attempt.retry_after
from wanted
cross join throttle_reserve(wanted.keys, wanted.max_counts, wanted.seconds, $8) as attempt
order by attempt.key

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
-- Release an attempt whose password was right, and reset the failures of this account at this IP
-- address and those in a row. Other attempts in flight there still count. If other attempts have
-- locked the login meanwhile, change nothing and return true.
with streak as materialized (
    select user_id, failures
    from consecutive_failures
    where user_id = $4
    for update
),
locked as materialized (
    select user_id
    from streak
    where failures >= $7::integer and not exists (
        select
        from known_ips
        where user_id = $4
            and ip_key = $5
            and last_seen > now() - make_interval(secs => $6::integer)
    )
),
held as (
    select throttle.key
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as reserved (key, ends_at)
        on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
    where not exists (select from locked)
    order by throttle.key
    for update of throttle
),
released as (
    update throttle
    set in_flight = greatest(throttle.in_flight - 1, 0),
        hits = case when throttle.key = $3 then 0 else throttle.hits end
    from held
    where throttle.key = held.key
),
cleared as (
    delete from consecutive_failures
    using streak
    where consecutive_failures.user_id = streak.user_id and not exists (select from locked)
)
select exists (select from locked)
