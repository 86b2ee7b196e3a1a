-- name: read_server() -> one
select
    current_setting('server_version_num')::integer as version_number,
    current_setting('server_version') as version,
    current_setting('server_encoding') as encoding,
    current_user as user_name,
    current_database() as database_name,
    pg_is_in_recovery()
        or current_setting('default_transaction_read_only')::boolean as is_read_only,
    coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
    to_regclass('_yoyo_migration') is not null as has_migrations,
    has_table_privilege(to_regclass('_yoyo_migration'), 'select') as may_read_migrations,
    pg_database_size(current_database()) as size,
    pg_backend_pid() as backend_pid

-- name: read_clock() -> value
select clock_timestamp()

-- name: list_migrations() -> rows
select migration_id
from _yoyo_migration
order by migration_id

-- name: read_connections() -> one
-- An ordinary user cannot use connections of either reserve. `reserved_connections` exists since
-- PostgreSQL 16. Each process of the service has one connection that is named `listener_`.
select
    least(
        current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer
            - coalesce(current_setting('reserved_connections', true), '0')::integer,
        (
            select nullif(rolconnlimit, -1)
            from pg_roles
            where rolname = current_user
        ),
        (
            select nullif(datconnlimit, -1)
            from pg_database
            where datname = current_database()
        )
    ) as allowed,
    (
        select count(*)
        from pg_stat_activity
        where backend_type = 'client backend'
    ) as open,
    (
        select count(*)
        from pg_stat_activity
        where datname = current_database() and application_name ~ '^listener_[0-9a-f]{16}$'
    ) as processes

-- name: list_foreign_tables() -> rows
-- Return the tables of the service that the user may not read, write or migrate. They have the
-- owner of `users`: the schema may contain the tables of other programs.
select relname::text as name
from pg_class
where relnamespace = (
        select relnamespace
        from pg_class
        where oid = to_regclass('users')
    )
    and relkind = 'r'
    and relowner = (
        select relowner
        from pg_class
        where oid = to_regclass('users')
    )
    and not (
        pg_has_role(relowner, 'usage')
        and has_table_privilege(oid, 'select')
        and has_table_privilege(oid, 'insert')
        and has_table_privilege(oid, 'update')
        and has_table_privilege(oid, 'delete')
    )
order by relname
