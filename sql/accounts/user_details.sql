-- name: find_by_name(id, email_key, username_key) -> rows
-- Return the users with this id, this email or this username: at most three.
select id, email_key is not distinct from $2::text as has_email
from users
where closed_at is null and (id = $1 or email_key = $2 or username_key = $3)

-- name: describe(user_id) -> row
select
    id, username, email, email_verified_at, created_at, updated_at, locked_at, two_factor_since,
    roles,
    password_hash is not null as has_password,
    (select count(*) from recovery_codes where user_id = users.id) as recovery_codes_left,
    coalesce(
        (select failures from consecutive_failures where user_id = users.id), 0
    ) as failed_logins_in_a_row
from users
where id = $1 and closed_at is null

-- name: list_sessions(user_id, limit) -> rows
select
    id, created_at, last_used_at, least(expires_at, idle_expires_at) as expires_at, ip, user_agent
from sessions
where user_id = $1 and ended_at is null and least(expires_at, idle_expires_at) > now()
order by last_used_at desc, id desc
limit $2

-- name: list_events(user_id, limit) -> rows
select id, kind, created_at, ip, user_agent, session_id, amr, actor
from events
where user_id = $1
order by id desc
limit $2
