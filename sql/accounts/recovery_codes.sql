-- name: replace_all(user_id, digests) -> none
-- Call sessions.lock_user in an earlier statement.
with deleted as (
    delete from recovery_codes
    where user_id = $1
)
insert into recovery_codes (digest, user_id)
select unnest($2::bytea[]), $1

-- name: use(user_id, digest) -> value
-- Use a code. Return the id of the user, or null: of simultaneous uses one succeeds.
delete from recovery_codes
where user_id = $1 and digest = $2
returning user_id
