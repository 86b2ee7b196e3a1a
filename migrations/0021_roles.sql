-- Administrators give roles to a user. The service reads them from its cache, so a change notifies
-- every process. An access token has them as a claim, whose JSON needs no escaping.
alter table users
    add column roles text[] not null default '{}',
    add constraint users_roles_check check (
        roles = '{}'
        or (
            closed_at is null
            and cardinality(roles) <= 20
            and array_position(roles, null) is null
            and array_to_string(roles, ',')
                ~ '^[a-z0-9][a-z0-9_.:-]{0,49}(,[a-z0-9][a-z0-9_.:-]{0,49})*$'
        )
    );

create trigger users_roles_changed_notify
after update of roles on users
for each row
when (old.roles is distinct from new.roles)
execute function notify_account('user');
