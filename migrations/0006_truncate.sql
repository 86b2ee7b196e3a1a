-- Whoever empties a table by hand: triggers for each row do not fire then.
create function notify_all_accounts() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', 'all:');
    return null;
end
$$;

create trigger users_emptied_notify
after truncate on users
for each statement
execute function notify_all_accounts();

create trigger sessions_emptied_notify
after truncate on sessions
for each statement
execute function notify_all_accounts();
