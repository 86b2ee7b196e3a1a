-- name: try_challenge(digest, max_attempts) -> row
-- Count an attempt on a challenge before its code is verified, so that simultaneous attempts do not
-- exceed the maximum. Return no row if the challenge is unknown, was used, has expired, or had
-- `max_attempts`.
update one_time_tokens
set attempts = attempts + 1
where digest = $1
    and purpose = 'two_factor'
    and used_at is null
    and expires_at > now()
    and attempts < $2
returning user_id, data

-- name: use_challenge(digest) -> value
-- Of simultaneous uses one succeeds: the others get null.
update one_time_tokens
set used_at = now()
where digest = $1 and purpose = 'two_factor' and used_at is null
returning user_id
