-- name: hit(key, max_count, seconds) -> one
-- Count a request exactly: on a conflict the row is locked, and its latest version is updated.
-- Counting stops at one past the limit. A transaction that began before the one that opened the
-- window sees more than a whole window ahead, but no client waits longer than that.
insert into throttle (key, hits, ends_at)
values ($1, 1, now() + make_interval(secs => $3::integer))
on conflict (key) do update
set hits = case
        when throttle.ends_at <= now() then 1
        else least(throttle.hits + 1, $2::integer + 1)
    end,
    ends_at = case when throttle.ends_at <= now() then excluded.ends_at else throttle.ends_at end
returning
    ends_at,
    hits <= $2::integer as admitted,
    least(ceil(extract(epoch from ends_at - now()))::integer, $3::integer) as retry_after

-- name: release_hits(keys, windows) -> none
-- Release the requests that `hit` counted in these windows: `windows` are its `ends_at`. The rows
-- are locked in the order of their keys, so that no two requests deadlock.
with held as (
    select throttle.key
    from throttle
    join unnest($1::bytea[], $2::timestamptz[]) as hit (key, ends_at)
        on hit.key = throttle.key and hit.ends_at = throttle.ends_at
    order by throttle.key
    for update of throttle
)
update throttle
set hits = greatest(throttle.hits - 1, 0)
from held
where throttle.key = held.key

-- name: lower_hits(key, max_count) -> none
-- Lower the count of the current window to at most `max_count`.
update throttle
set hits = $2::integer
where key = $1 and hits > $2::integer

-- name: delete_expired(limit) -> value
-- Delete at most `limit` expired windows and return their number. Locked rows are left for later.
with expired as (
    select key
    from throttle
    where ends_at <= now()
    order by ends_at
    limit $1
    for update skip locked
),
deleted as (
    delete from throttle
    using expired
    where throttle.key = expired.key
    returning throttle.key
)
select count(*)
from deleted
