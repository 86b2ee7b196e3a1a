-- name: list(text, is_locked, is_verified, before_time, before_id, max_examined, limit) -> rows
-- Of the next `max_examined` users, the newest first, return at most `limit` that match. So the
-- work is bounded also when few users match. `is_last` marks the last examined user, who may not
-- match. A null filter matches every user.
with examined as (
    select
        id, username, email, email_verified_at, created_at, locked_at, two_factor_since, roles,
        ($1::text is null or strpos(username_key, $1) > 0 or strpos(email_key, $1) > 0)
        and ($2::boolean is null or (locked_at is not null) = $2)
        and ($3::boolean is null or (email_verified_at is not null) = $3) as is_match,
        row_number() over (order by created_at desc, id desc) = $6::integer as is_last
    from users
    where closed_at is null and (created_at, id) < ($4, $5)
    order by created_at desc, id desc
    limit $6
)
select
    id, username, email, email_verified_at, created_at, locked_at, two_factor_since, roles,
    is_match, is_last
from examined
where is_match or is_last
order by created_at desc, id desc
limit $7
