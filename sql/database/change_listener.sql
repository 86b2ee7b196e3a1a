-- name: send_heartbeat(channel) -> value
-- Return true if the heartbeat was sent. A read-only server sends none: the changes are made on
-- another server. A heartbeat need not survive a crash: its commit does not wait for the disk or
-- for a replica.
select pg_notify($1, '') is not null and set_config('synchronous_commit', 'off', true) is not null
where not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean
