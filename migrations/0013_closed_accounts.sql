-- Deleting an account closes it, in one short transaction: its row stays as the target of foreign keys, without anything that
-- tells whose it was. What the account wrote is removed in batches (sql/accounts/closed_accounts.sql), and at last the row. Until
-- then it is listed and counted like everything else.
--
-- Locks. The order of migration 0003 holds, without its deletion lock: every statement of the service that deletes articles or
-- favorites locks the rows of each table of counts in ascending order before it changes any. A deletion by hand of several articles
-- under traffic may meet a deadlock, which costs a retry and no count.

alter table users
    add column closed_at timestamptz,
    alter column username drop not null,
    alter column username_key drop not null,
    alter column email drop not null,
    alter column email_key drop not null,
    alter column password_hash drop not null,
    add constraint users_closed_check check (
        case
            when closed_at is null then num_nulls(username, username_key, email, email_key, password_hash) = 0
            else num_nonnulls(username, username_key, email, email_key, password_hash, bio, image) = 0
        end
    );

create index users_closed_idx on users (id) where closed_at is not null;


-- Closing has invalidated the user and their sessions everywhere: the removal of the rows changes nothing that a process caches.
drop trigger users_deleted_notify on users;

create trigger users_deleted_notify
after delete on users
for each row
when (old.closed_at is null)
execute function notify_account('user');

create function notify_deleted_session() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', 'session:' || old.id)
    from users
    where id = old.user_id and closed_at is null;
    return null;
end
$$;

drop trigger sessions_deleted_notify on sessions;

create trigger sessions_deleted_notify
after delete on sessions
for each row
when (old.ended_at is null and old.expires_at > now() and pg_trigger_depth() = 0)
execute function notify_deleted_session();


-- A closed account satisfies the foreign keys, so these two triggers raise what a foreign key would. The lock makes closing wait for
-- the transaction that adds a row, and the transaction that finds a closing account wait for its end.
create or replace function favorites_prepare() returns trigger language plpgsql as $$
begin
    -- The foreign keys would take these locks too, but in the order of their names after a restore; users come first.
    perform from users where id = new.user_id and closed_at is null for key share;
    if not found then
        raise foreign_key_violation using message = 'the account is closed', constraint = 'favorites_user_fk';
    end if;
    select created_at into new.article_created_at from articles where id = new.article_id for key share;
    -- Deleted meanwhile: the foreign key shall say so, not a null.
    new.article_created_at := coalesce(new.article_created_at, '-infinity');
    return new;
end
$$;

create function follows_prepare() returns trigger language plpgsql as $$
begin
    perform from users where id = new.follower_id and closed_at is null for key share;
    if not found then
        raise foreign_key_violation using message = 'the account is closed', constraint = 'follows_follower_fk';
    end if;
    perform from users where id = new.followed_id and closed_at is null for key share;
    if not found then
        raise foreign_key_violation using message = 'the account is closed', constraint = 'follows_followed_fk';
    end if;
    return new;
end
$$;

create trigger follows_prepare before insert on follows
for each row execute function follows_prepare();


drop trigger users_take_deletion_lock on users;
drop trigger articles_take_deletion_lock on articles;
drop function take_deletion_lock();


-- One update of each tag for all articles of a statement, instead of one for each article.
--
-- The two functions below read their transition table into arrays first. The planner takes an array it cannot see for ten elements,
-- and finds each in an index; of a transition table it knows the size, and reads a whole table of counts to join it.
drop trigger articles_count_deleted_tags on articles;
drop function articles_count_deleted_tags();

create or replace function articles_count_deleted() returns trigger language plpgsql as $$
declare
    tags text[];
    times timestamptz[];
    article_ids bigint[];
    author_ids uuid[];
    counts bigint[];
begin
    select array_agg(tag), array_agg(created_at), array_agg(id)
    into tags, times, article_ids
    from (
        select distinct tag, deleted.created_at, deleted.id
        from deleted cross join unnest(deleted.tag_list) as tag
    ) as gone;

    delete from article_tags
    using unnest(tags, times, article_ids) as gone (tag, created_at, article_id)
    where article_tags.tag = gone.tag
        and article_tags.created_at = gone.created_at
        and article_tags.article_id = gone.article_id;

    select array_agg(tag), array_agg(articles_count)
    into tags, counts
    from (select tag, count(*) as articles_count from unnest(tags) as tag group by tag) as gone;

    perform from tag_counts where tag = any (tags) order by tag for no key update;

    update tag_counts set articles_count = tag_counts.articles_count - gone.articles_count
    from unnest(tags, counts) as gone (tag, articles_count)
    where tag_counts.tag = gone.tag;

    select array_agg(author_id), array_agg(articles_count)
    into author_ids, counts
    from (select author_id, count(*) as articles_count from deleted group by author_id) as gone;

    perform from user_counts where user_id = any (author_ids) order by user_id for no key update;

    update user_counts set articles_count = user_counts.articles_count - gone.articles_count
    from unnest(author_ids, counts) as gone (author_id, articles_count)
    where user_counts.user_id = gone.author_id;

    insert into article_totals (slot, articles_count)
    select pg_backend_pid() % 32, -count(*) from deleted having count(*) > 0
    on conflict (slot) do update set articles_count = article_totals.articles_count + excluded.articles_count;
    return null;
end
$$;

create or replace function favorites_count_deleted() returns trigger language plpgsql as $$
declare
    article_ids bigint[];
    user_ids uuid[];
    counts bigint[];
begin
    -- Most articles have no favorite left when they go, and the cascade runs once for each.
    if not exists (select from deleted) then
        return null;
    end if;

    select array_agg(article_id), array_agg(favorites_count)
    into article_ids, counts
    from (select article_id, count(*) as favorites_count from deleted group by article_id) as gone;

    -- Updates, not upserts: when an article or a user is being deleted, its counts may be gone already, and stay so.
    perform from article_counts where article_id = any (article_ids) order by article_id for no key update;

    update article_counts set favorites_count = article_counts.favorites_count - gone.favorites_count
    from unnest(article_ids, counts) as gone (article_id, favorites_count)
    where article_counts.article_id = gone.article_id;

    select array_agg(user_id), array_agg(favorites_count)
    into user_ids, counts
    from (select user_id, count(*) as favorites_count from deleted group by user_id) as gone;

    perform from user_counts where user_id = any (user_ids) order by user_id for no key update;

    update user_counts set favorites_count = user_counts.favorites_count - gone.favorites_count
    from unnest(user_ids, counts) as gone (user_id, favorites_count)
    where user_counts.user_id = gone.user_id;
    return null;
end
$$;


-- Removes articles with what belongs to them, or, where that is more than 1,000 favorites, comments or former slugs, or 4 MiB of
-- comments, only so much of that. True when the articles are gone; otherwise it is called again.
--
-- A function, since these are several statements in one transaction: what is selected after the articles were locked must be seen as
-- it is then. It takes every lock in the order above, before the cascades and the triggers take them in theirs.
create function remove_articles(article_ids bigint[]) returns boolean language plpgsql as $$
declare
    most_rows constant integer := 1000;
    most_bytes constant integer := 4194304;
    liked_ids bigint[];
    reader_ids uuid[];
    comment_ids bigint[];
    former_slugs text[];
    is_complete boolean;
begin
    -- From here on no favorite and no comment is added to these articles, and their tags stay.
    perform from articles where id = any (article_ids) order by id for update;

    select array_agg(article_id), array_agg(user_id)
    into liked_ids, reader_ids
    from (
        select article_id, user_id from favorites where article_id = any (article_ids) limit most_rows for update
    ) as liked;

    -- pg_column_size is that of the compressed text, which is what a deletion has to touch.
    select
        array_agg(id) filter (where bytes_before < most_bytes),
        count(*) < most_rows and coalesce(max(bytes_before) < most_bytes, true)
    into comment_ids, is_complete
    from (
        select id, sum(bytes) over (rows unbounded preceding) - bytes as bytes_before
        from (
            select id, pg_column_size(body) as bytes from comments where article_id = any (article_ids) limit most_rows
        ) as sized
    ) as summed;

    former_slugs := array(
        select article_slugs.slug
        from articles
        join article_slugs on article_slugs.article_id = articles.id and article_slugs.slug <> articles.slug
        where articles.id = any (article_ids)
        limit most_rows
    );
    is_complete := is_complete
        and coalesce(cardinality(liked_ids), 0) < most_rows
        and cardinality(former_slugs) < most_rows;

    if is_complete then
        perform from tag_counts
        where tag = any (array(select unnest(articles.tag_list) from articles where articles.id = any (article_ids)))
        order by tag for no key update;
    end if;
    perform from article_counts where article_id = any (article_ids) order by article_id for update;
    perform from user_counts
    where user_id = any (reader_ids || array(select author_id from articles where id = any (article_ids)))
    order by user_id for no key update;

    delete from favorites
    using unnest(liked_ids, reader_ids) as liked (article_id, user_id)
    where favorites.article_id = liked.article_id and favorites.user_id = liked.user_id;
    delete from comments where id = any (comment_ids);
    delete from article_slugs where slug = any (former_slugs);
    if is_complete then
        delete from articles where id = any (article_ids);
    end if;
    return is_complete;
end
$$;
