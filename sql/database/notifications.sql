-- name: send_beat(channel) -> value
-- True when it was sent. A server that only reads is not the one whose changes are waited for.
select pg_notify($1, '') is not null
where not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean
