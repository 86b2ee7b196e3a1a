-- name: try_lock(lock) -> value
-- The lock is held until the transaction ends. A process that does not get it leaves the work to
-- the process that has it.
select pg_try_advisory_xact_lock($1)

-- name: delete_sessions(max_age, limit) -> value
-- Skip locked rows. The statement never waits for another transaction, so it cannot be part of a
-- deadlock.
with deleted as (
    delete from sessions
    where id in (
        select id
        from sessions
        where expires_at < now() - make_interval(secs => $1)
            or ended_at < now() - make_interval(secs => $1)
        limit $2
        for update skip locked
    )
    returning id
)
select count(*)
from deleted

-- name: delete_events(max_age, limit) -> value
with deleted as (
    delete from events
    where id in (
        select id
        from events
        where created_at < now() - make_interval(secs => $1)
        limit $2
    )
    returning id
)
select count(*)
from deleted

-- name: delete_unknown_account_events(max_age, limit) -> value
with deleted as (
    delete from events
    where id in (
        select id
        from events
        where user_id is null and created_at < now() - make_interval(secs => $1)
        limit $2
    )
    returning id
)
select count(*)
from deleted
