drop trigger users_changed_notify on users;
drop trigger users_deleted_notify on users;
drop table events;
drop table refresh_tokens;
drop table sessions;
drop function notify_account();
