-- name: insert(digest, purpose, ttl, data) -> none
-- A flow has no user before it is complete.
insert into one_time_tokens (digest, purpose, expires_at, data)
values ($1, $2, now() + make_interval(secs => $3::integer), $4::jsonb)

-- name: consume_state(digest, browser) -> row
-- Use a state in the browser that has its secret. In another browser it stays unused.
update one_time_tokens
set used_at = now()
where digest = $1
    and purpose = 'provider_state'
    and used_at is null
    and expires_at > now()
    and data ->> 'browser' = $2
returning data

-- name: consume_session_code(digest, purpose, session_id) -> row
-- Use a code in the session that began. In another session it stays unused.
update one_time_tokens
set used_at = now()
where digest = $1
    and purpose = $2
    and used_at is null
    and expires_at > now()
    and data ->> 'session_id' = $3
returning data
