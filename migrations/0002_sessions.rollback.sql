drop table refresh_tokens;
drop table sessions;
drop function notify_deleted_session();
