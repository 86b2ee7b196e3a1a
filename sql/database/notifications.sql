-- name: send_heartbeat(channel) -> value
-- True when it was sent. A server that only reads is not the one whose changes are waited for.
-- A heartbeat need not survive a crash: its commit does not wait for the disk or for a replica.
select pg_notify($1, '') is not null and set_config('synchronous_commit', 'off', true) is not null
where not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean
