alter table sessions rename column rotated_at to advanced_at;
alter table sessions drop column touched_at;

alter table refresh_tokens add column expires_at timestamptz;

update refresh_tokens
set expires_at = sessions.idle_expires_at
from sessions
where sessions.id = refresh_tokens.session_id;

alter table refresh_tokens alter column expires_at set not null;
alter table sessions drop column idle_expires_at;
