-- name: consume_code(digest, code_challenge) -> row
-- Use a code with the secret of the front-end that began. With another secret it stays unused.
update one_time_tokens
set used_at = now()
where digest = $1
    and purpose = 'provider_code'
    and used_at is null
    and expires_at > now()
    and data ->> 'code_challenge' = $2
returning data

-- name: complete_code(digest, user_id, session_id) -> value
-- Replace the profile in a used code by the session that it opened. Return no row if the code was
-- presented again meanwhile. The row stays until the token is deleted as an expired one of a user.
update one_time_tokens
set user_id = $2,
    data = jsonb_build_object(
        'code_challenge', data -> 'code_challenge', 'session_id', $3::text
    )
where digest = $1 and purpose = 'provider_code' and used_at is not null and attempts = 0
returning user_id

-- name: note_reuse(digest, code_challenge) -> row
-- Count another use of a code. Return the session that the first use opened, if it has.
update one_time_tokens
set attempts = attempts + 1
where digest = $1
    and purpose = 'provider_code'
    and used_at is not null
    and data ->> 'code_challenge' = $2
returning user_id, data ->> 'session_id' as session_id
