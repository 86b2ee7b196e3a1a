-- name: add(user_id, ip_key) -> none
-- Make `ip_key` one of the user's ten latest known IP addresses. Older ones are deleted, except for
-- rows that another transaction has locked.
with known as (
    insert into known_ips (user_id, ip_key)
    values ($1, $2)
    on conflict (user_id, ip_key) do update set last_seen = now()
)
delete from known_ips
using (
    select ip_key
    from known_ips
    where user_id = $1 and ip_key <> $2
    order by last_seen desc, ip_key
    offset 9
    for update skip locked
) as surplus
where known_ips.user_id = $1 and known_ips.ip_key = surplus.ip_key

-- name: replace_all(user_id, ip_key) -> none
-- Make `ip_key` the only known IP address of the user.
with known as (
    insert into known_ips (user_id, ip_key)
    values ($1, $2)
    on conflict (user_id, ip_key) do update set last_seen = now()
)
delete from known_ips
where user_id = $1 and ip_key <> $2

-- name: delete_expired(known_ttl, limit) -> value
-- Delete at most `limit` IP addresses that were not seen for `known_ttl` seconds, and return their
-- number. Locked rows are left for later.
with expired as (
    select user_id, ip_key
    from known_ips
    where last_seen <= now() - make_interval(secs => $1::integer)
    order by last_seen
    limit $2
    for update skip locked
),
deleted as (
    delete from known_ips
    using expired
    where known_ips.user_id = expired.user_id
        and known_ips.ip_key = expired.ip_key
    returning known_ips.user_id
)
select count(*)
from deleted
