-- name: write(recipient, subject, body) -> none
-- A mail to nobody, '', is not kept: it takes as long as one to somebody, and that is all it is for.
insert into outbox (recipient, subject, body)
select $1::text, $2, $3
where $1 <> ''

-- name: claim(pause, longest_pause, lifetime) -> row
-- The mail that is due for longest, and with it the time of the next try, which comes unless the
-- mail is removed: also when whoever took it was killed. The pause doubles from try to try.
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
    due_at = now()
        + make_interval(secs => least($1::integer * power(2, least(outbox.attempts, 20)), $2::integer))
from due
where outbox.id = due.id
returning
    outbox.id, outbox.recipient, outbox.subject, outbox.body, outbox.created_at,
    outbox.created_at < now() - make_interval(secs => $3::integer) as is_last_try

-- name: remove(id) -> none
delete from outbox
where id = $1
