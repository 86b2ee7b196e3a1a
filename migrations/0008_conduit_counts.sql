-- An index of articles by tag, and kept counts. Triggers derive all of it in the transaction that
-- causes the change: docs/decisions/kept-counts.md has the reasons and the costs.
--
-- Every transaction acquires its locks in this order, and within a table in ascending order:
--
--     users > articles > slugs > favorites > tag_counts > article_counts > user_counts
--     > article_totals

-- One row for each tag of each article. The list of a tag reads the primary key backwards, the list
-- of a tag and an author the second index. There is no foreign key: it would need an index on
-- article_id just for the cascade, half as big again, and the triggers know the keys from tag_list.
create table article_tags (
    tag text collate "C" not null,
    created_at timestamptz not null,
    article_id bigint not null,
    author_id uuid not null,
    primary key (tag, created_at, article_id)
);

create index article_tags_author_id_tag_created_at_article_id_idx
on article_tags (author_id, tag, created_at, article_id);

alter table article_tags set (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.02
);

-- The fill factors leave space in each page: an update of a count stays in its page and changes no
-- index.
create table tag_counts (
    tag text collate "C" not null primary key,
    articles_count bigint not null,
    -- The most used tags are found by this column. An index on the count itself would get a new
    -- entry with every article. The magnitude changes only when the count has changed by about a
    -- tenth.
    magnitude integer not null generated always as (
        case
            when articles_count > 0
                then floor(24 * log(articles_count::double precision))::integer
            else -1
        end
    ) stored
) with (fillfactor = 50);

create index tag_counts_magnitude_idx on tag_counts (magnitude desc) where magnitude >= 0;

create table article_counts (
    article_id bigint not null primary key references articles on delete cascade,
    favorites_count bigint not null,
    constraint article_counts_favorites_count_check check (favorites_count >= 0)
) with (fillfactor = 80);

create table user_counts (
    user_id uuid not null primary key references users on delete cascade,
    articles_count bigint not null default 0,
    favorites_count bigint not null default 0,
    -- No article of this user is newer. The newest may be older, because a deletion does not lower
    -- the value. The feed skips authors who have written nothing recently.
    articles_until timestamptz not null default '-infinity',
    constraint user_counts_articles_count_favorites_count_check
        check (articles_count >= 0 and favorites_count >= 0)
) with (fillfactor = 80);

-- The number of all articles is the sum of the slots. With a single row, only one article could be
-- created at a time, on any number of connections. A connection writes the slot that its process id
-- selects. A slot may be negative.
create table article_totals (
    slot integer not null primary key,
    articles_count bigint not null
) with (fillfactor = 10);


create function articles_count_inserted() returns trigger language plpgsql as $$
begin
    insert into article_tags (tag, created_at, article_id, author_id)
    select distinct tag, inserted.created_at, inserted.id, inserted.author_id
    from inserted
    cross join unnest(inserted.tag_list) as tag;

    insert into tag_counts (tag, articles_count)
    select tag, count(distinct inserted.id)
    from inserted
    cross join unnest(inserted.tag_list) as tag
    group by tag
    order by tag
    on conflict (tag) do update
    set articles_count = tag_counts.articles_count + excluded.articles_count;

    insert into user_counts (user_id, articles_count, articles_until)
    select author_id, count(*), max(created_at)
    from inserted
    group by author_id
    order by author_id
    on conflict (user_id) do update
    set articles_count = user_counts.articles_count + excluded.articles_count,
        articles_until = greatest(user_counts.articles_until, excluded.articles_until);

    insert into article_totals (slot, articles_count)
    select pg_backend_pid() % 32, count(*)
    from inserted
    having count(*) > 0
    on conflict (slot) do update
    set articles_count = article_totals.articles_count + excluded.articles_count;
    return null;
end
$$;

create trigger articles_count_inserted after insert on articles referencing new table as inserted
for each statement execute function articles_count_inserted();


create function articles_count_tag_list() returns trigger language plpgsql as $$
begin
    delete from article_tags
    where tag = any (old.tag_list) and tag <> all (new.tag_list)
        and created_at = old.created_at and article_id = old.id;

    insert into article_tags (tag, created_at, article_id, author_id)
    select distinct tag, new.created_at, new.id, new.author_id
    from unnest(new.tag_list) as tag
    where tag <> all (old.tag_list);

    insert into tag_counts (tag, articles_count)
    select tag, sum(change)
    from (
        select distinct tag, 1 as change from unnest(new.tag_list) as tag
        union all
        select distinct tag, -1 from unnest(old.tag_list) as tag
    ) as changes
    group by tag
    having sum(change) <> 0
    order by tag
    on conflict (tag) do update
    set articles_count = tag_counts.articles_count + excluded.articles_count;
    return null;
end
$$;

create trigger articles_count_tag_list after update of tag_list on articles for each row
when (old.tag_list is distinct from new.tag_list)
execute function articles_count_tag_list();


-- Update each tag once for all articles of a statement, not once for each article.
--
-- This function and favorites_count_deleted read their transition table into arrays first. The
-- planner assumes ten elements for an array that it cannot see, and finds each in an index. It
-- knows the size of a transition table, and would read a whole table of counts to join it.
create function articles_count_deleted() returns trigger language plpgsql as $$
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
        from deleted
        cross join unnest(deleted.tag_list) as tag
    ) as removed;

    delete from article_tags
    using unnest(tags, times, article_ids) as removed (tag, created_at, article_id)
    where article_tags.tag = removed.tag
        and article_tags.created_at = removed.created_at
        and article_tags.article_id = removed.article_id;

    select array_agg(tag), array_agg(articles_count)
    into tags, counts
    from (select tag, count(*) as articles_count from unnest(tags) as tag group by tag) as removed;

    perform from tag_counts where tag = any (tags) order by tag for no key update;

    update tag_counts
    set articles_count = tag_counts.articles_count - removed.articles_count
    from unnest(tags, counts) as removed (tag, articles_count)
    where tag_counts.tag = removed.tag;

    select array_agg(author_id), array_agg(articles_count)
    into author_ids, counts
    from (select author_id, count(*) as articles_count from deleted group by author_id) as removed;

    perform from user_counts where user_id = any (author_ids) order by user_id for no key update;

    update user_counts
    set articles_count = user_counts.articles_count - removed.articles_count
    from unnest(author_ids, counts) as removed (author_id, articles_count)
    where user_counts.user_id = removed.author_id;

    insert into article_totals (slot, articles_count)
    select pg_backend_pid() % 32, -count(*)
    from deleted
    having count(*) > 0
    on conflict (slot) do update
    set articles_count = article_totals.articles_count + excluded.articles_count;
    return null;
end
$$;

create trigger articles_count_deleted after delete on articles referencing old table as deleted
for each statement execute function articles_count_deleted();


create function favorites_count_inserted() returns trigger language plpgsql as $$
begin
    insert into article_counts (article_id, favorites_count)
    select article_id, count(*)
    from inserted
    group by article_id
    order by article_id
    on conflict (article_id) do update
    set favorites_count = article_counts.favorites_count + excluded.favorites_count;

    insert into user_counts (user_id, favorites_count)
    select user_id, count(*)
    from inserted
    group by user_id
    order by user_id
    on conflict (user_id) do update
    set favorites_count = user_counts.favorites_count + excluded.favorites_count;
    return null;
end
$$;

create trigger favorites_count_inserted after insert on favorites referencing new table as inserted
for each statement execute function favorites_count_inserted();


create function favorites_count_deleted() returns trigger language plpgsql as $$
declare
    article_ids bigint[];
    user_ids uuid[];
    counts bigint[];
begin
    -- Most articles have no favorite left when they are deleted, and the cascade runs once for
    -- each.
    if not exists (select from deleted) then
        return null;
    end if;

    select array_agg(article_id), array_agg(favorites_count)
    into article_ids, counts
    from (
        select article_id, count(*) as favorites_count
        from deleted
        group by article_id
    ) as removed;

    -- Update only, never insert: if an article or a user is being deleted, the row of its counts
    -- may have been deleted already.
    perform from article_counts
    where article_id = any (article_ids)
    order by article_id
    for no key update;

    update article_counts
    set favorites_count = article_counts.favorites_count - removed.favorites_count
    from unnest(article_ids, counts) as removed (article_id, favorites_count)
    where article_counts.article_id = removed.article_id;

    select array_agg(user_id), array_agg(favorites_count)
    into user_ids, counts
    from (select user_id, count(*) as favorites_count from deleted group by user_id) as removed;

    perform from user_counts where user_id = any (user_ids) order by user_id for no key update;

    update user_counts
    set favorites_count = user_counts.favorites_count - removed.favorites_count
    from unnest(user_ids, counts) as removed (user_id, favorites_count)
    where user_counts.user_id = removed.user_id;
    return null;
end
$$;

create trigger favorites_count_deleted after delete on favorites referencing old table as deleted
for each statement execute function favorites_count_deleted();


-- Acquire the locks for a deleted user in the order above, before the cascades acquire them in
-- another order.
create function users_prepare_deletion() returns trigger language plpgsql as $$
begin
    -- From here on, the tags of these articles cannot change, and no favorite or comment can be
    -- added.
    perform from articles where author_id = old.id order by id for update;

    perform from tag_counts
    where tag in (select article_tags.tag from article_tags where article_tags.author_id = old.id)
    order by tag
    for no key update;

    -- The cascade from articles would lock the user_counts of readers first. article_counts come
    -- before user_counts.
    delete from favorites where user_id = old.id;
    return old;
end
$$;

create trigger users_prepare_deletion before delete on users
for each row execute function users_prepare_deletion();


-- Truncation fires no row triggers. Tests use it, and administrators who start afresh.
create function articles_count_truncated() returns trigger language plpgsql as $$
begin
    delete from article_tags;
    delete from tag_counts;
    delete from article_totals;
    update user_counts set articles_count = 0 where articles_count <> 0;
    return null;
end
$$;

create trigger articles_count_truncated after truncate on articles
for each statement execute function articles_count_truncated();

create function favorites_count_truncated() returns trigger language plpgsql as $$
begin
    delete from article_counts;
    update user_counts set favorites_count = 0 where favorites_count <> 0;
    return null;
end
$$;

create trigger favorites_count_truncated after truncate on favorites
for each statement execute function favorites_count_truncated();
