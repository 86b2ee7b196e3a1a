drop trigger users_roles_changed_notify on users;
alter table users
    drop constraint users_roles_check,
    drop column roles;
