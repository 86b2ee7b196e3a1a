-- name: write(recipient, template, language, values) -> none
-- With an empty recipient nothing is inserted, but the statement runs, so that timing does not
-- reveal whether the account exists.
insert into outbox (recipient, template, language, values)
select $1::text, $2, $3, $4::jsonb
where $1 <> ''

-- name: claim(lease, lifetime) -> row
-- Return the mail that has been due for the longest time. For `lease` seconds no other process can
-- claim it. After that it is due again, even if the process that claimed it was killed.
-- The order is that of the index alone. With the id in it, each claim would sort all mails that are
-- due at the same time, such as those of `retry`: 58 ms for 100,000 mails.
with due as (
    select id
    from outbox
    where state = 'pending' and due_at <= now()
    order by due_at
    limit 1
    for update skip locked
)
update outbox
set attempts = outbox.attempts + 1,
    due_at = now() + make_interval(secs => $1)
from due
where outbox.id = due.id
returning
    outbox.id, outbox.recipient, outbox.template, outbox.language, outbox.values,
    outbox.created_at, outbox.attempts,
    outbox.created_at < now() - make_interval(secs => $2::integer) as is_last_attempt

-- name: mark_sent(id) -> none
-- Keep neither the recipient nor the values, which may contain a token.
update outbox
set state = 'sent', recipient = '', values = '{}', error = null, finished_at = now()
where id = $1

-- name: refuse(id, error) -> none
-- Keep the recipient and the values: the operator may retry the mail.
update outbox
set state = 'refused', error = $2, finished_at = now()
where id = $1 and state = 'pending'

-- name: postpone(id, attempts, pause, error) -> none
-- Do nothing if the lease has expired and another process has claimed the mail since then.
update outbox
set due_at = now() + make_interval(secs => $3), error = $4
where id = $1 and attempts = $2 and state = 'pending'

-- name: release(id, attempts, error) -> none
-- The attempt did not reach the mail server, so it does not count.
update outbox
set due_at = now(), attempts = attempts - 1, error = $3
where id = $1 and attempts = $2 and state = 'pending'

-- name: delete_finished(sent_ttl, refused_ttl, limit) -> value
with deleted as (
    delete from outbox
    where id in (
        select id
        from outbox
        where (state = 'sent' and finished_at < now() - make_interval(secs => $1))
            or (state = 'refused' and finished_at < now() - make_interval(secs => $2))
        limit $3
    )
    returning id
)
select count(*)
from deleted

-- name: count_unsent() -> one
select
    count(*) filter (where state = 'refused') as refused,
    count(*) filter (where state = 'pending') as pending
from outbox
where state <> 'sent'

-- name: measure() -> one
-- The index of the mails that wait has both, however many were sent.
select
    count(*) as pending,
    coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_age
from outbox
where state = 'pending'

-- name: list_unsent(limit) -> rows
select id, state, template, recipient, attempts, error, created_at
from outbox
where state <> 'sent'
order by state = 'refused' desc, created_at, id
limit $1

-- name: retry(id, lease) -> value
-- Make a refused mail new: its lifetime begins again. A mail that waits becomes due now, except one
-- that is due within the lease: a process may be sending it. Without an id, retry all mails.
with retried as (
    update outbox
    set state = 'pending',
        attempts = 0,
        due_at = now(),
        created_at = case when state = 'refused' then now() else created_at end,
        finished_at = null
    where ($1::uuid is null or id = $1)
        and (
            state = 'refused'
            or (state = 'pending' and due_at > now() + make_interval(secs => $2))
        )
    returning id
)
select count(*)
from retried
