drop table users;
drop function notify_all_accounts();
drop function notify_account();
