-- name: find_with_user(id, user_id) -> row
select
    users.id, users.email, users.username, users.bio, users.image,
    sessions.id as session_id, sessions.expires_at as session_expires_at,
    sessions.end_reason, sessions.expires_at <= now() as expired
from sessions
join users on users.id = sessions.user_id
where sessions.id = $1 and sessions.user_id = $2

-- name: lock_owner(user_id) -> value
-- The hash of the user's password. Whoever ends several sessions of a user, or counts them, holds the user's row: one at a time, and
-- no deadlock between two that would lock the same sessions in a different order.
select password_hash
from users
where id = $1
for no key update

-- name: open(user_id, password_hash, ttl, digest, refresh_token_ttl, kind, ip, user_agent) -> row
-- Only while the hash is the one that was verified. Who changes the password holds the row until
-- that is committed, and ends what was opened before.
with owner as (
    select id
    from users
    where id = $1 and password_hash = $2
    for share
),
session as (
    insert into sessions (user_id, expires_at, ip, user_agent)
    select id, now() + make_interval(secs => $3), $7, $8
    from owner
    returning id, user_id, expires_at
),
token as (
    insert into refresh_tokens (digest, session_id, generation, expires_at)
    select $4::bytea, id, 0, least(now() + make_interval(secs => $5), expires_at)
    from session
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id)
    select user_id, $6, $7, $8, id
    from session
)
select id, expires_at
from session

-- name: count_open(user_id) -> value
select count(*)
from sessions
where user_id = $1 and ended_at is null and expires_at > now()

-- name: evict_oldest(user_id, keep, ip, user_agent) -> none
with evicted as (
    update sessions
    set ended_at = now(), end_reason = 'evicted'
    where ended_at is null and id in (
        select id
        from sessions
        where user_id = $1 and ended_at is null and expires_at > now()
        order by last_used_at desc, id desc
        offset $2
    )
    returning id, user_id
)
insert into events (user_id, kind, ip, user_agent, session_id)
select user_id, 'evicted', $3, $4, id
from evicted

-- name: is_open(id) -> value
select exists (select from sessions where id = $1 and ended_at is null and expires_at > now())

-- name: list_open(user_id) -> rows
-- Nobody reads further; SESSION_LIMIT is for those who mind.
select id, created_at, last_used_at, ip, user_agent
from sessions
where user_id = $1 and ended_at is null and expires_at > now()
order by created_at desc, id desc
limit 1000

-- name: end_one(id, user_id, kind, ip, user_agent) -> value
with ended as (
    update sessions
    set ended_at = now(), end_reason = $3
    where id = $1 and user_id = $2 and ended_at is null and expires_at > now()
    returning id, user_id
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id)
    select user_id, $3, $4, $5, id
    from ended
)
select id
from ended

-- name: end_others(user_id, except_id, reason, ip, user_agent) -> none
with ended as (
    update sessions
    set ended_at = now(), end_reason = $3
    where user_id = $1 and id <> $2 and ended_at is null and expires_at > now()
    returning id, user_id
)
insert into events (user_id, kind, ip, user_agent, session_id)
select user_id, 'session_ended', $4, $5, id
from ended
