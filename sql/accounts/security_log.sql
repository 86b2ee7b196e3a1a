-- name: insert(user_id, kind, ip, user_agent, session_id) -> none
insert into events (user_id, kind, ip, user_agent, session_id)
values ($1, $2, $3, $4, $5)

-- name: list(user_id, before, limit) -> rows
select id, kind, created_at, ip, user_agent, session_id, amr
from events
where user_id = $1 and id < $2
order by id desc
limit $3
