delete from one_time_tokens where user_id is null or email is null;
alter table one_time_tokens
    drop column attempts,
    drop column data,
    alter column email_key set not null,
    alter column email set not null,
    alter column user_id set not null;

-- No password matches an empty hash.
update users set password_hash = '' where password_hash is null and closed_at is null;
alter table users
    drop constraint users_closed_at_check,
    add constraint users_closed_at_check check (
        case
            when closed_at is null
                then num_nulls(username, username_key, email, email_key, password_hash) = 0
            else
                num_nonnulls(
                    username, username_key, email, email_key, password_hash, bio, image
                ) = 0
        end
    );

alter table events
    drop column amr;

drop trigger sessions_proof_changed_notify on sessions;
alter table sessions
    drop column amr,
    drop column auth_time;
