alter table users
    drop constraint users_locked_at_check,
    drop column locked_at;
