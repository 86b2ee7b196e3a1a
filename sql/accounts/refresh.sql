-- name: find(digest, grace) -> row
-- Locks the session: of simultaneous refreshes each sees what the one before it has done.
select
    sessions.id, sessions.user_id, sessions.expires_at, sessions.end_reason,
    sessions.expires_at <= now() as over,
    refresh_tokens.expires_at <= now() as expired,
    refresh_tokens.generation = sessions.generation as live,
    refresh_tokens.generation = sessions.generation - 1
    and sessions.advanced_at >= now() - make_interval(secs => $2) as in_grace
from refresh_tokens
join sessions on sessions.id = refresh_tokens.session_id
where refresh_tokens.digest = $1
for no key update of sessions

-- name: advance(session_id, digest, ttl, ip, user_agent) -> none
-- Every token of the generation so far becomes a parent.
with session as (
    update sessions
    set generation = generation + 1,
        advanced_at = now(),
        last_used_at = now(),
        ip = $4,
        user_agent = $5
    where id = $1
    returning id, generation, expires_at
)
insert into refresh_tokens (digest, session_id, generation, expires_at)
select $2::bytea, id, generation, least(now() + make_interval(secs => $3), expires_at)
from session

-- name: issue_another(session_id, digest, ttl) -> none
-- One more of the generation that is live, for a parent within the grace.
insert into refresh_tokens (digest, session_id, generation, expires_at)
select $2::bytea, id, generation, least(now() + make_interval(secs => $3), expires_at)
from sessions
where id = $1
