drop table recovery_codes;
drop table totp_secrets;
drop trigger users_two_factor_changed_notify on users;
alter table users
    drop constraint users_two_factor_since_check,
    drop column two_factor_since;
