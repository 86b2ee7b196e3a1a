-- name: write(recipient, subject, body) -> none
-- With an empty recipient nothing is inserted, but the statement runs, so that timing does not
-- reveal whether the account exists.
insert into outbox (recipient, subject, body)
select $1::text, $2, $3
where $1 <> ''

-- name: claim(pause, max_pause, lifetime) -> row
-- Return the mail that has been due for the longest time, and schedule its next attempt. That
-- attempt happens unless the mail is removed, even if the process that claimed it was killed. The
-- pause doubles after each attempt.
with due as (
    select id
    from outbox
    where due_at <= now()
    order by due_at, id
    limit 1
    for update skip locked
)
update outbox
set attempts = outbox.attempts + 1,
    due_at = now() + make_interval(
        secs => least($1::integer * power(2, least(outbox.attempts, 20)), $2::integer)
    )
from due
where outbox.id = due.id
returning
    outbox.id, outbox.recipient, outbox.subject, outbox.body, outbox.created_at,
    outbox.created_at < now() - make_interval(secs => $3::integer) as is_last_attempt

-- name: remove(id) -> none
delete from outbox
where id = $1
