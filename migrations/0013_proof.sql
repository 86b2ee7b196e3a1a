-- When and how the person of a session last proved who they are. The claims of OpenID Connect have
-- the same names. Sessions from before this migration began with a password.
alter table sessions
    add column auth_time timestamptz not null default now(),
    -- The methods of that proof (RFC 8176).
    add column amr text[] not null default '{pwd}';

update sessions
set auth_time = created_at;

alter table sessions
    alter column amr set default '{}';

-- A changed proof is known to every process at once. A refresh changes neither column.
create trigger sessions_proof_changed_notify
after update of auth_time, amr on sessions
for each row
when ((old.auth_time, old.amr) is distinct from (new.auth_time, new.amr))
execute function notify_account('session');

alter table events
    -- The methods of a sign-in, null for any other event.
    add column amr text[];

-- An account without a password has another way to sign in.
alter table users
    drop constraint users_closed_at_check,
    add constraint users_closed_at_check check (
        case
            when closed_at is null
                then num_nulls(username, username_key, email, email_key) = 0
            else
                num_nonnulls(
                    username, username_key, email, email_key, password_hash, bio, image
                ) = 0
        end
    );

-- A challenge is a token too. The challenge of a sign-in may have no user yet.
alter table one_time_tokens
    alter column user_id drop not null,
    alter column email drop not null,
    alter column email_key drop not null,
    -- What the service must remember until the token is used. No client can change it.
    add column data jsonb,
    -- The number of wrong responses to a challenge.
    add column attempts integer not null default 0;
