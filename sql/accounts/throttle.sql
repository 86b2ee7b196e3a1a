-- name: reserve(keys, most, seconds, wide_keys, account_id, address_key, known_ttl, lease) -> rows
-- Admit an attempt under all keys or none: see the function `throttle_reserve`. The limits of
-- `wide_keys` do not apply at an IP address from which the user signed in within `known_ttl` seconds,
-- and do not count its attempts.
-- Starts with `with` because it writes: it must not be repeated after a lost connection.
with wanted as (
    select
        array_agg(given.key) as keys,
        array_agg(given.most) as most,
        array_agg(given.seconds) as seconds
    from unnest($1::bytea[], $2::integer[], $3::integer[]) as given (key, most, seconds)
    where given.key <> all ($4::bytea[]) or not exists (
        select
        from known_addresses
        where known_addresses.user_id = $5
            and known_addresses.address_key = $6
            and known_addresses.last_seen > now() - make_interval(secs => $7::integer)
    )
)
select answer.key, answer.ends_at, answer.admitted, answer.refused, answer.retry_after
from wanted
cross join throttle_reserve(wanted.keys, wanted.most, wanted.seconds, $8) as answer
order by answer.key

-- name: fail(keys, windows) -> rows
-- Count a wrong password. Every login locks the rows in the order of their keys, so that no two
-- logins deadlock. `windows` are the `ends_at` of `reserve`.
with held as (
    select throttle.key
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as reserved (key, ends_at)
        on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
)
update throttle
set pending = greatest(throttle.pending - 1, 0),
    counted = throttle.counted + 1
from held
where throttle.key = held.key
returning throttle.key, throttle.counted

-- name: give_back(keys, windows) -> none
-- Release an attempt whose password was not verified. A row that then counts nothing is deleted:
-- otherwise an attacker could invent emails without end, and each would leave a row.
with held as (
    select throttle.key, throttle.counted + throttle.pending <= 1 as is_last
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as reserved (key, ends_at)
        on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
),
kept as (
    update throttle
    set pending = greatest(throttle.pending - 1, 0)
    from held
    where throttle.key = held.key and not held.is_last
)
delete from throttle
using held
where throttle.key = held.key and held.is_last

-- name: succeed(keys, windows, pair_key) -> none
-- Release an attempt whose password was right, and reset the failures of this account at this IP
-- address. Other pending attempts there still count.
with held as (
    select throttle.key
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as reserved (key, ends_at)
        on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
)
update throttle
set pending = greatest(throttle.pending - 1, 0),
    counted = case when throttle.key = $3 then 0 else throttle.counted end
from held
where throttle.key = held.key

-- name: know_only(user_id, address_key) -> none
-- Keep only the IP address from which the password was changed: the owner uses it. The others signed
-- in with the old password.
with known as (
    insert into known_addresses (user_id, address_key)
    values ($1, $2)
    on conflict (user_id, address_key) do update set last_seen = now()
)
delete from known_addresses
where user_id = $1 and address_key <> $2

-- name: admit(key, most, seconds) -> row
-- Count a request exactly: on a conflict the row is locked, and its latest version is updated.
-- Counting stops at one past the limit.
insert into throttle (key, counted, ends_at)
values ($1, 1, now() + make_interval(secs => $3::integer))
on conflict (key) do update
set counted = case
        when throttle.ends_at <= now() then 1
        else least(throttle.counted + 1, $2::integer + 1)
    end,
    ends_at = case when throttle.ends_at <= now() then excluded.ends_at else throttle.ends_at end
returning
    ends_at,
    counted <= $2::integer as admitted,
    ceil(extract(epoch from ends_at - now()))::integer as retry_after

-- name: release_admitted(keys, windows) -> none
-- Release the requests that `admit` counted in these windows.
with held as (
    select throttle.key
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as admitted (key, ends_at)
        on admitted.key = throttle.key and admitted.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
)
update throttle
set counted = greatest(throttle.counted - 1, 0)
from held
where throttle.key = held.key

-- name: delete_expired(limit) -> value
-- Delete at most `limit` expired windows and return their number. Locked rows are left for later.
with expired as (
    select throttle.key
    from throttle
    where throttle.ends_at <= now()
    order by throttle.ends_at
    limit $1
    for update skip locked
),
removed as (
    delete from throttle
    using expired
    where throttle.key = expired.key
    returning throttle.key
)
select count(*) from removed

-- name: delete_forgotten_addresses(known_ttl, limit) -> value
-- Delete at most `limit` IP addresses that were not seen for `known_ttl` seconds, and return their
-- number.
with forgotten as (
    select known_addresses.user_id, known_addresses.address_key
    from known_addresses
    where known_addresses.last_seen <= now() - make_interval(secs => $1::integer)
    order by known_addresses.last_seen
    limit $2
    for update skip locked
),
removed as (
    delete from known_addresses
    using forgotten
    where known_addresses.user_id = forgotten.user_id
        and known_addresses.address_key = forgotten.address_key
    returning known_addresses.user_id
)
select count(*) from removed
