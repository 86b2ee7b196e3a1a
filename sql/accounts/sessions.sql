-- name: find_with_user(id, user_id) -> row
select
    users.id, users.email, users.username, users.bio, users.image,
    users.two_factor_since is not null as two_factor, users.roles,
    sessions.id as session_id, sessions.end_reason, sessions.last_used_at, sessions.touched_at,
    sessions.ip, sessions.user_agent, sessions.auth_time, sessions.amr,
    least(sessions.expires_at, sessions.idle_expires_at) as session_expires_at,
    least(sessions.expires_at, sessions.idle_expires_at) <= now() as expired
from sessions
join users on users.id = sessions.user_id
where sessions.id = $1 and sessions.user_id = $2 and users.closed_at is null

-- name: lock_user(user_id) -> value
-- Return the version of the user's password. A transaction that ends or counts several sessions of
-- a user locks the user's row first. So only one of them runs at a time, and two of them cannot
-- deadlock by locking the same sessions in a different order.
select password_version
from users
where id = $1
for no key update

-- name: open(user_id, password_version, ttl, digest, refresh_token_ttl, kind, ip, user_agent,
--     ip_key, amr, is_fresh, known_only, keys, windows, pair_key, known_ttl, max_failures) -> one
-- Record the success of a login attempt, if `keys` is not null: see the function
-- `record_login_success`. Open no session if it does not count (`counts`).
-- Open a session only while the verified password is current and the account is not locked. A
-- password change and a lock of the account lock the user's row until they commit, and end all
-- sessions that were opened before. The IP address is stored as one of the user's ten latest. Older
-- ones are deleted, except for rows that another transaction has locked.
-- `is_known` tells whether the user logged in with this device and from this IP address before: see
-- the function `is_known_login`. If `known_only`, no other login opens a session.
with login as materialized (
    select is_known_login($1, $7, $8, $9) as is_known
),
owner as (
    select id, roles
    from users
    where id = $1
        and password_version = $2
        and closed_at is null
        and locked_at is null
        and (not $12::boolean or (select is_known from login))
    for share
),
-- Every transaction locks the user before the counters. To count the owners is to lock them first.
attempt as materialized (
    select
        case
            when $13::bytea[] is null then true
            else record_login_success($13, $14, $15, $1, $9, $16, $17)
        end as counts
    from (select count(*) from owner) as locked
),
session as (
    insert into sessions (user_id, expires_at, idle_expires_at, ip, user_agent, amr, auth_time)
    select
        id, expires_at, least(now() + make_interval(secs => $5), expires_at), $7, $8, $10,
        case when $11::boolean then now() else to_timestamp(0) end
    from owner
    cross join (select now() + make_interval(secs => $3) as expires_at) as absolute
    where (select counts from attempt)
    returning id, user_id, idle_expires_at
),
token as (
    insert into refresh_tokens (digest, session_id, generation)
    select $4::bytea, id, 0
    from session
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id, amr)
    select user_id, $6, $7, $8, id, $10
    from session
),
known as (
    insert into known_ips (user_id, ip_key)
    select user_id, $9
    from session
    on conflict (user_id, ip_key) do update set last_seen = now()
    returning user_id
),
removed as (
    delete from known_ips
    using (
        select older.ip_key
        from known_ips as older
        join known on known.user_id = older.user_id
        where older.ip_key <> $9
        order by older.last_seen desc, older.ip_key
        offset 9
        for update of older skip locked
    ) as surplus
    where known_ips.user_id = $1 and known_ips.ip_key = surplus.ip_key
)
select
    attempt.counts,
    session.id, session.idle_expires_at as expires_at, login.is_known, owner.roles
from attempt
cross join login
left join session on true
left join owner on owner.id = session.user_id

-- name: count_open(user_id) -> value
select count(*)
from sessions
where user_id = $1 and ended_at is null and least(expires_at, idle_expires_at) > now()

-- name: evict_oldest(user_id, keep, ip, user_agent) -> none
with evicted as (
    update sessions
    set ended_at = now(), end_reason = 'evicted'
    where ended_at is null and id in (
        select id
        from sessions
        where user_id = $1 and ended_at is null and least(expires_at, idle_expires_at) > now()
        order by last_used_at desc, id desc
        offset $2
    )
    returning id, user_id
)
insert into events (user_id, kind, ip, user_agent, session_id)
select user_id, 'evicted', $3, $4, id
from evicted

-- name: find_state(id) -> row
select
    sessions.end_reason,
    least(sessions.expires_at, sessions.idle_expires_at) <= now() as expired
from sessions
join users on users.id = sessions.user_id
where sessions.id = $1 and users.closed_at is null

-- name: touch(id, ip, user_agent, interval) -> row
-- Record the use of a session whose device does not refresh, so that its owner sees it in the list:
-- at most once in `interval` seconds. Return the values of the session after this.
with touched as (
    update sessions
    set last_used_at = now(), touched_at = now(), ip = $2, user_agent = $3
    where id = $1
        and ended_at is null
        and coalesce(touched_at, '-infinity') <= now() - make_interval(secs => $4)
        and (
            last_used_at <= now() - make_interval(secs => $4)
            or ip is distinct from $2
            or user_agent is distinct from $3
        )
    returning last_used_at, touched_at, ip, user_agent
)
select last_used_at, touched_at, ip, user_agent
from touched
union all
select last_used_at, touched_at, ip, user_agent
from sessions
where id = $1 and not exists (select from touched)

-- name: list_open(user_id, current_id) -> rows
-- No reader needs more than 1,000 sessions, and SESSION_LIMIT can set a lower limit. The current
-- session is always in the list.
select id, created_at, last_used_at, ip, user_agent
from (
    select id, created_at, last_used_at, ip, user_agent
    from sessions
    where user_id = $1 and ended_at is null and least(expires_at, idle_expires_at) > now()
    order by id = $2 desc, created_at desc, id desc
    limit 1000
) as listed
order by created_at desc, id desc

-- name: end_one(id, user_id, kind, ip, user_agent, actor) -> value
with ended as (
    update sessions
    set ended_at = now(), end_reason = $3
    where id = $1
        and user_id = $2
        and ended_at is null
        and least(expires_at, idle_expires_at) > now()
    returning id, user_id
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id, actor)
    select user_id, $3, $4, $5, id, $6
    from ended
)
select id
from ended

-- name: end_others(user_id, except_id, reason, ip, user_agent) -> none
-- End sessions that have expired too: a refresh that began before the expiry may still wait.
with ended as (
    update sessions
    set ended_at = now(), end_reason = $3
    where user_id = $1 and id <> $2 and ended_at is null
    returning id, user_id, least(expires_at, idle_expires_at) > now() as was_open
)
insert into events (user_id, kind, ip, user_agent, session_id)
select user_id, 'session_ended', $4, $5, id
from ended
where was_open

-- name: end_all(user_id, reason, ip, user_agent, actor) -> none
-- End sessions that have expired too, as in `end_others`.
with ended as (
    update sessions
    set ended_at = now(), end_reason = $2
    where user_id = $1 and ended_at is null
    returning id, user_id, least(expires_at, idle_expires_at) > now() as was_open
)
insert into events (user_id, kind, ip, user_agent, session_id, actor)
select user_id, 'session_ended', $3, $4, id, $5
from ended
where was_open
