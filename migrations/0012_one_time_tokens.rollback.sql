drop table one_time_tokens;
alter table users
    drop constraint users_ever_verified_check,
    drop column ever_verified,
    drop column email_verified_at;
