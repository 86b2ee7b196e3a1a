-- name: list_all(before, limit) -> rows
select id, kind, created_at, user_id, actor, ip, user_agent, session_id, amr
from events
where id < $1
order by id desc
limit $2

-- name: list_of_user(user_id, before, limit) -> rows
select id, kind, created_at, user_id, actor, ip, user_agent, session_id, amr
from events
where user_id = $1 and id < $2
order by id desc
limit $3

-- name: list_of_actor(actor, before, limit) -> rows
select id, kind, created_at, user_id, actor, ip, user_agent, session_id, amr
from events
where actor = $1 and id < $2
order by id desc
limit $3
