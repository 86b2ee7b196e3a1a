-- A session that is not refreshed expires, whatever its access tokens do. All current refresh tokens
-- of a session expire together, so the time is kept once, on the session, and not on each token.
alter table sessions add column idle_expires_at timestamptz;

update sessions
set idle_expires_at = coalesce(
    (select max(expires_at) from refresh_tokens where session_id = sessions.id),
    sessions.expires_at
);

alter table sessions alter column idle_expires_at set not null;
alter table refresh_tokens drop column expires_at;

-- When a fresh access token last updated `last_used_at`: see sessions.touch.
alter table sessions add column touched_at timestamptz;

alter table sessions rename column advanced_at to rotated_at;
