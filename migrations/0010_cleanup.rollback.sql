drop index events_of_nobody_idx;
create index refresh_tokens_expires_at_idx on refresh_tokens (expires_at);
