-- Completes the removal of closed accounts, which the older version would show.
delete from users where closed_at is not null;

drop function remove_articles(bigint[]);

create or replace function favorites_count_deleted() returns trigger language plpgsql as $$
begin
    -- Updates, not upserts: when an article or a user is being deleted, its counts may be gone already, and stay so.
    update article_counts set favorites_count = article_counts.favorites_count - gone.favorites_count
    from (select article_id, count(*) as favorites_count from deleted group by article_id) as gone
    where article_counts.article_id = gone.article_id;

    update user_counts set favorites_count = user_counts.favorites_count - gone.favorites_count
    from (select user_id, count(*) as favorites_count from deleted group by user_id) as gone
    where user_counts.user_id = gone.user_id;
    return null;
end
$$;

create or replace function articles_count_deleted() returns trigger language plpgsql as $$
begin
    update user_counts set articles_count = user_counts.articles_count - gone.articles_count
    from (select author_id, count(*) as articles_count from deleted group by author_id) as gone
    where user_counts.user_id = gone.author_id;

    insert into article_totals (slot, articles_count)
    select pg_backend_pid() % 32, -count(*) from deleted having count(*) > 0
    on conflict (slot) do update set articles_count = article_totals.articles_count + excluded.articles_count;
    return null;
end
$$;

create function articles_count_deleted_tags() returns trigger language plpgsql as $$
begin
    delete from article_tags
    where tag = any (old.tag_list) and created_at = old.created_at and article_id = old.id;

    perform from tag_counts where tag = any (old.tag_list) order by tag for no key update;

    update tag_counts set articles_count = articles_count - 1 where tag = any (old.tag_list);
    return old;
end
$$;

create trigger articles_count_deleted_tags before delete on articles
for each row execute function articles_count_deleted_tags();

create function take_deletion_lock() returns trigger language plpgsql as $$
begin
    -- Any number that nothing else locks. Held to the end of the transaction.
    perform pg_advisory_xact_lock(731000001);
    return null;
end
$$;

create trigger users_take_deletion_lock before delete on users
for each statement execute function take_deletion_lock();

create trigger articles_take_deletion_lock before delete on articles
for each statement execute function take_deletion_lock();

drop trigger follows_prepare on follows;
drop function follows_prepare();

create or replace function favorites_prepare() returns trigger language plpgsql as $$
begin
    -- The foreign keys would take these locks too, but in the order of their names after a restore; users come first.
    perform from users where id = new.user_id for key share;
    select created_at into new.article_created_at from articles where id = new.article_id for key share;
    -- Deleted meanwhile: the foreign key shall say so, not a null.
    new.article_created_at := coalesce(new.article_created_at, '-infinity');
    return new;
end
$$;

drop trigger sessions_deleted_notify on sessions;

create trigger sessions_deleted_notify
after delete on sessions
for each row
when (old.ended_at is null and old.expires_at > now() and pg_trigger_depth() = 0)
execute function notify_account('session');

drop function notify_deleted_session();

drop trigger users_deleted_notify on users;

create trigger users_deleted_notify
after delete on users
for each row
execute function notify_account('user');

drop index users_closed_idx;

alter table users
    drop constraint users_closed_check,
    alter column username set not null,
    alter column username_key set not null,
    alter column email set not null,
    alter column email_key set not null,
    alter column password_hash set not null,
    drop column closed_at;
