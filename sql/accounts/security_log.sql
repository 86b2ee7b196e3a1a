-- name: insert(user_id, kind, ip, user_agent, session_id, actor) -> none
insert into events (user_id, kind, ip, user_agent, session_id, actor)
values ($1, $2, $3, $4, $5, $6)

-- name: list(user_id, before, limit) -> rows
-- The IP address of an administrator is not for the owner of the account.
select
    id, kind, created_at, session_id, amr,
    actor is not null as by_administrator,
    case when actor is null then ip end as ip,
    case when actor is null then user_agent end as user_agent
from events
where user_id = $1 and id < $2
order by id desc
limit $3
