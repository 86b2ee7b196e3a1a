-- name: read_outbox() -> one
select
    count(*) filter (where state = 'refused') as refused,
    count(*) filter (where state = 'pending') as waiting,
    coalesce(
        extract(epoch from now() - min(created_at) filter (where state = 'pending')),
        0
    )::float8 as oldest
from outbox
where state <> 'sent'
