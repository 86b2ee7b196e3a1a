-- name: insert(name, digest, scopes) -> value
-- Return the id of the key, or null if a key has this name, also a revoked one.
insert into api_keys (name, digest, scopes)
values ($1, $2, $3)
on conflict (name) do nothing
returning id

-- name: find(digest, interval) -> row
-- Find a key, also a revoked one, and whether its use was recorded within `interval` seconds.
select
    id, name, scopes,
    revoked_at is not null as is_revoked,
    coalesce(last_used_at > now() - make_interval(secs => $2::integer), false) as is_use_recorded
from api_keys
where digest = $1

-- name: record_use(id) -> none
update api_keys
set last_used_at = now()
where id = $1

-- name: list() -> rows
select name, scopes, created_at, last_used_at, revoked_at
from api_keys
order by name

-- name: revoke(name) -> row
-- Return whether the key was not revoked before, or no row if no key has this name.
with revoked as (
    update api_keys
    set revoked_at = now()
    where name = $1 and revoked_at is null
    returning id
)
select exists (select from revoked) as has_changed
from api_keys
where name = $1
