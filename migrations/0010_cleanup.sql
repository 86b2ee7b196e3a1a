-- Refresh tokens go with their session now, and not before: nothing looks for expired ones.
drop index refresh_tokens_expires_at_idx;

-- Failed sign-ins to addresses that nobody has go sooner than what an owner may read.
create index events_of_nobody_idx on events (created_at) where user_id is null;
