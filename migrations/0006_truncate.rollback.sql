drop trigger sessions_emptied_notify on sessions;
drop trigger users_emptied_notify on users;
drop function notify_all_accounts();
