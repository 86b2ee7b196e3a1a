-- name: use(digest, grace, new_digest, ttl, ip, user_agent, ip_key, known_ttl, throttle_key,
--     max_count, seconds, site_key, max_site_count) -> one
-- Count the request, then use the token, in one round trip. `throttle.hit` explains the counting. A
-- null key counts nothing. The /64 of an IPv6 address comes first: a request that it rejects does
-- not count against others in the /48. `retry_after` is not null if a limit rejects the request.
-- One statement, so that the rotation commits immediately. In a transaction of several statements
-- the grace period could end between rotation and commit, while PostgreSQL or the network stalls.
-- The statement locks the session: of simultaneous refreshes each sees the result of the previous
-- one. The token counts as presented at `now()`. The time of the rotation is read from the clock
-- after the lock was acquired.
with hit as (
    insert into throttle (key, hits, ends_at)
    select $9::bytea, 1, now() + make_interval(secs => $11::integer)
    where $9 is not null
    on conflict (key) do update
    set hits = case
            when throttle.ends_at <= now() then 1
            else least(throttle.hits + 1, $10::integer + 1)
        end,
        ends_at = case
            when throttle.ends_at <= now() then excluded.ends_at else throttle.ends_at
        end
    returning
        hits <= $10::integer as admitted,
        least(ceil(extract(epoch from ends_at - now()))::integer, $11::integer) as retry_after
),
site_hit as (
    insert into throttle (key, hits, ends_at)
    select $12::bytea, 1, now() + make_interval(secs => $11::integer)
    where $12 is not null and not exists (select from hit where not admitted)
    on conflict (key) do update
    set hits = case
            when throttle.ends_at <= now() then 1
            else least(throttle.hits + 1, $13::integer + 1)
        end,
        ends_at = case
            when throttle.ends_at <= now() then excluded.ends_at else throttle.ends_at
        end
    returning
        hits <= $13::integer as admitted,
        least(ceil(extract(epoch from ends_at - now()))::integer, $11::integer) as retry_after
),
rejected as (
    select retry_after
    from hit
    where not admitted
    union all
    select retry_after
    from site_hit
    where not admitted
),
presented as materialized (
    select
        sessions.id, sessions.user_id, sessions.generation, sessions.end_reason,
        sessions.expires_at, sessions.idle_expires_at, users.roles,
        case
            when sessions.ended_at is not null then 'ended'
            when least(sessions.expires_at, sessions.idle_expires_at) <= now() then 'expired'
            when refresh_tokens.generation = sessions.generation then 'current'
            when refresh_tokens.generation = sessions.generation - 1
                and sessions.rotated_at >= now() - make_interval(secs => $2) then 'in_grace_period'
            else 'reused'
        end as state
    from refresh_tokens
    join sessions on sessions.id = refresh_tokens.session_id
    join users on users.id = sessions.user_id and users.closed_at is null
    where refresh_tokens.digest = $1 and not exists (select from rejected)
    for no key update of sessions
),
rotated as (
    update sessions
    set generation = sessions.generation + 1,
        rotated_at = clock_timestamp(),
        last_used_at = now(),
        idle_expires_at = least(now() + make_interval(secs => $4), sessions.expires_at),
        ip = $5,
        user_agent = $6
    from presented
    where sessions.id = presented.id and presented.state = 'current'
    returning sessions.id, sessions.user_id, sessions.generation, sessions.idle_expires_at
),
-- A token that is presented again within the grace period gets a sibling of the current tokens.
issued as (
    insert into refresh_tokens (digest, session_id, generation)
    select $3::bytea, id, generation
    from rotated
    union all
    select $3::bytea, id, generation
    from presented
    where state = 'in_grace_period'
),
-- A session in use keeps its IP address known. Thirty updates within `known_ttl` are enough. Skip a
-- locked row: the transaction that holds it may wait for the session that is locked here.
due as (
    select known_ips.user_id, known_ips.ip_key
    from known_ips
    join rotated on rotated.user_id = known_ips.user_id
    where known_ips.ip_key = $7
        and known_ips.last_seen < now() - make_interval(secs => $8::integer) / 30
    for update of known_ips skip locked
),
renewed as (
    update known_ips
    set last_seen = now()
    from due
    where known_ips.user_id = due.user_id and known_ips.ip_key = due.ip_key
),
revoked as (
    update sessions
    set ended_at = now(), end_reason = 'refresh_token_reused'
    from presented
    where sessions.id = presented.id and presented.state = 'reused'
    returning sessions.id, sessions.user_id
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id)
    select user_id, 'refresh_token_reused', $5, $6, id
    from revoked
)
select
    (select retry_after from rejected) as retry_after,
    presented.id, presented.user_id, presented.state, presented.end_reason,
    presented.roles,
    coalesce(rotated.idle_expires_at, presented.idle_expires_at) as expires_at
from (select) as request
left join presented on true
left join rotated on rotated.id = presented.id
