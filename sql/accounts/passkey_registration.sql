-- name: consume_challenge(digest, purpose, user_id, session_id) -> value
-- Use the challenge of a registration in the session that asked for it.
update one_time_tokens
set used_at = now()
where digest = $1
    and purpose = $2
    and used_at is null
    and expires_at > now()
    and user_id = $3
    and data ->> 'session_id' = $4
returning user_id

-- name: insert(user_id, credential_id, public_key, sign_count, transports, name) -> one
insert into passkeys (user_id, credential_id, public_key, sign_count, transports, name)
values ($1, $2, $3, $4, $5, $6)
returning id, name, created_at, last_used_at
