-- A closed account keeps its row as the target of foreign keys until everything that it wrote is
-- removed (sql/accounts/closed_accounts.sql). Closing is then one short transaction, whatever the
-- size of the account. The row of a closed account holds nothing that tells whose it was.
create table users (
    id uuid primary key default gen_random_uuid(),
    username text,
    -- Uniqueness ignores case and Unicode normalization. The service computes the keys, so that
    -- equality does not depend on the locale of the database.
    username_key text,
    email text,
    email_key text,
    password_hash text,
    -- Increases with every change of the password. A request that verified an older password must
    -- not open a session or delete anything. Renewing a hash at another cost is not a change.
    password_version integer not null default 0,
    bio text,
    image text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    closed_at timestamptz,
    constraint users_username_key_key unique (username_key),
    constraint users_email_key_key unique (email_key),
    constraint users_closed_at_check check (
        case
            when closed_at is null
                then num_nulls(username, username_key, email, email_key, password_hash) = 0
            else
                num_nonnulls(
                    username, username_key, email, email_key, password_hash, bio, image
                ) = 0
        end
    )
);

create index users_closed_idx on users (id) where closed_at is not null;


-- The channel `accounts` tells every process which cached entry to invalidate: `user:<id>`,
-- `session:<id>` or `all:`. Only rare events may notify: PostgreSQL takes a database-wide lock when
-- a transaction with a notification commits. So a login and a refresh send none.
create function notify_account() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', tg_argv[0] || ':' || old.id);
    return null;
end
$$;

create function notify_all_accounts() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', 'all:');
    return null;
end
$$;

-- Closing an account changes these columns, too.
create trigger users_changed_notify
after update of email, username, bio, image on users
for each row
when (
    (old.email, old.username, old.bio, old.image)
    is distinct from (new.email, new.username, new.bio, new.image)
)
execute function notify_account('user');

-- Closing an account has already invalidated the user and their sessions in every process. The
-- removal of the row changes nothing that a process caches.
create trigger users_deleted_notify
after delete on users
for each row
when (old.closed_at is null)
execute function notify_account('user');

-- An administrator may truncate the table. That fires no row triggers.
create trigger users_truncated_notify
after truncate on users
for each statement
execute function notify_all_accounts();
