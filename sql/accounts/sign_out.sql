-- name: find_time() -> one
select now() as time

-- name: end_batch(after, limit, began_before, reason, ip, user_agent, actor) -> one
-- Examine the next `limit` sessions in the order of their ids, and end those that began up to
-- `began_before`. Return the last id, the number of sessions that were open, and how many were
-- skipped because other transactions have locked them, such as refreshes. The statement never waits
-- for another transaction while it holds locks, so it cannot be part of a deadlock.
-- End sessions that have expired too, as in sessions.end_others. The ids are in arrays, because a
-- plan for any `limit` would join by reading the whole table.
with examined as materialized (
    select id, ended_at is null and created_at <= $3 as is_due
    from sessions
    where id > $1
    order by id
    limit $2
),
due as (
    select id
    from sessions
    where id = any (array(select id from examined where is_due)) and ended_at is null
    for update skip locked
),
ended as (
    update sessions
    set ended_at = now(), end_reason = $4
    where id = any (array(select id from due))
    returning id, user_id, least(expires_at, idle_expires_at) > now() as was_open
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id, actor)
    select user_id, 'session_ended', $5, $6, id, $7
    from ended
    where was_open
)
select
    (select id from examined order by id desc limit 1) as last_id,
    (select count(*) from ended where was_open) as ended,
    (select count(*) from examined where is_due) - (select count(*) from ended) as skipped

-- name: revoke_challenges(began_before, ttl, limit) -> value
-- Delete at most `limit` challenges of logins that began up to `began_before`, and return their
-- number. A challenge that is locked is used at this moment.
with chosen as (
    select digest
    from one_time_tokens
    where purpose = 'two_factor'
        and used_at is null
        and created_at <= $1
        and expires_at > now()
        and expires_at <= now() + make_interval(secs => $2::integer)
    limit $3
    for update skip locked
),
deleted as (
    delete from one_time_tokens
    where digest = any (array(select digest from chosen))
    returning digest
)
select count(*)
from deleted
