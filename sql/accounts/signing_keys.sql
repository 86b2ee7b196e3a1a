-- name: list() -> rows
-- The key that signs last comes first. `signs_in` is in seconds: the clock of another machine may
-- differ.
select
    id, algorithm, public_key, private_key,
    extract(epoch from signs_at - now())::double precision as signs_in
from signing_keys
order by signs_at desc, id

-- name: lock() -> none
-- Two processes must not add a key simultaneously. Reading goes on.
lock table signing_keys in share row exclusive mode

-- name: insert(id, algorithm, public_key, private_key, delay) -> none
insert into signing_keys (id, algorithm, public_key, private_key, signs_at)
values ($1, $2, $3, $4, now() + make_interval(secs => $5::integer))

-- name: delete_all() -> value
with deleted as (
    delete from signing_keys
    returning id
)
select count(*)
from deleted

-- name: delete_superseded(max_age) -> value
-- Delete the keys that stopped to sign more than `max_age` seconds ago.
with deleted as (
    delete from signing_keys
    where exists (
        select
        from signing_keys as newer
        where newer.signs_at > signing_keys.signs_at
            and newer.signs_at < now() - make_interval(secs => $1::integer)
    )
    returning id
)
select count(*)
from deleted

-- name: replace_private_key(id, old_private_key, new_private_key) -> value
-- Return the id, or null if the key was changed or deleted meanwhile.
update signing_keys
set private_key = $3
where id = $1 and private_key = $2
returning id
