-- What lists need so that they do not slow down as the data grows: an index of articles by tag, and kept counts. All of it is
-- derived, by the triggers below, in the transaction that causes it: exact at every moment, and no statement of the service
-- writes it. sql/conduit/counts.sql compares it with the truth.
--
-- Locks. A kept count is a row that writers share, so every transaction takes its locks in one order:
--
--     deletion lock > users > articles > slugs > favorites > tag_counts > article_counts > user_counts > article_totals
--
-- and, within tag_counts, tags in ascending order. Other writers than deletions touch one row of each table, except tag_counts.
-- Deletions of users and articles touch many, in the order their cascades happen to run, and therefore queue up behind one
-- another (deletion lock), which leaves only "deletion against others" to be ordered. That holds for one user a statement;
-- deleting several at once under traffic may meet a deadlock, which costs a retry and no count.

-- One row for each tag of each article; the primary key, read backwards, is the list of a tag, and the second index that of a
-- tag and an author. No foreign key: it would need an index on article_id just for the cascade, half as big again, and the
-- triggers know the keys from tag_list.
create table article_tags (
    tag text collate "C" not null,
    created_at timestamptz not null,
    article_id bigint not null,
    author_id uuid not null,
    constraint article_tags_pk primary key (tag, created_at, article_id)
);

create index article_tags_author_index on article_tags (author_id, tag, created_at, article_id);

alter table article_tags set (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.02
);

-- Low fill factors, and no index on what changes: an update then stays on its page and touches no index (HOT).
create table tag_counts (
    tag text collate "C" not null,
    articles_count bigint not null,
    -- The most used tags are found by this, not by the count itself, which would mean a new index entry at every article. It
    -- changes only when the count has grown or shrunk by about a tenth.
    magnitude integer not null generated always as (
        case when articles_count > 0 then floor(24 * log(articles_count::double precision))::integer else -1 end
    ) stored,
    constraint tag_counts_pk primary key (tag)
) with (fillfactor = 50);

create index tag_counts_magnitude_index on tag_counts (magnitude desc) where magnitude >= 0;

create table article_counts (
    article_id bigint not null,
    favorites_count bigint not null,
    constraint article_counts_pk primary key (article_id),
    constraint article_counts_article_fk foreign key (article_id) references articles (id) on delete cascade,
    constraint article_counts_not_negative check (favorites_count >= 0)
) with (fillfactor = 80);

create table user_counts (
    user_id uuid not null,
    articles_count bigint not null default 0,
    favorites_count bigint not null default 0,
    -- No article of this user is newer; the newest may be older, because a deletion does not lower it. Spares the feed a look
    -- at authors who have written nothing lately.
    articles_until timestamptz not null default '-infinity',
    constraint user_counts_pk primary key (user_id),
    constraint user_counts_user_fk foreign key (user_id) references users (id) on delete cascade,
    constraint user_counts_not_negative check (articles_count >= 0 and favorites_count >= 0)
) with (fillfactor = 80);

-- The number of all articles is the sum of the slots. A single row would let one article be created at a time, on any number
-- of connections; a connection writes the slot its process id falls on. A slot may be negative.
create table article_totals (
    slot integer not null,
    articles_count bigint not null,
    constraint article_totals_pk primary key (slot)
) with (fillfactor = 10);


create function articles_fix_identity() returns trigger language plpgsql as $$
begin
    raise exception 'the id, author_id and created_at of an article never change';
end
$$;

-- These three are copied into article_tags and favorites.
create trigger articles_fix_identity before update on articles for each row
when (old.id <> new.id or old.author_id <> new.author_id or old.created_at <> new.created_at)
execute function articles_fix_identity();


create function articles_count_inserted() returns trigger language plpgsql as $$
begin
    insert into article_tags (tag, created_at, article_id, author_id)
    select distinct tag, inserted.created_at, inserted.id, inserted.author_id
    from inserted cross join unnest(inserted.tag_list) as tag;

    insert into tag_counts (tag, articles_count)
    select tag, count(distinct inserted.id)
    from inserted cross join unnest(inserted.tag_list) as tag
    group by tag
    order by tag
    on conflict (tag) do update set articles_count = tag_counts.articles_count + excluded.articles_count;

    insert into user_counts (user_id, articles_count, articles_until)
    select author_id, count(*), max(created_at) from inserted group by author_id order by author_id
    on conflict (user_id) do update set
        articles_count = user_counts.articles_count + excluded.articles_count,
        articles_until = greatest(user_counts.articles_until, excluded.articles_until);

    insert into article_totals (slot, articles_count)
    select pg_backend_pid() % 32, count(*) from inserted having count(*) > 0
    on conflict (slot) do update set articles_count = article_totals.articles_count + excluded.articles_count;
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
    on conflict (tag) do update set articles_count = tag_counts.articles_count + excluded.articles_count;
    return null;
end
$$;

create trigger articles_count_tag_list after update of tag_list on articles for each row
when (old.tag_list is distinct from new.tag_list)
execute function articles_count_tag_list();


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


-- Before the row goes, and before its favorites go by cascade: tag_counts precede article_counts and user_counts.
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


create function articles_count_deleted() returns trigger language plpgsql as $$
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

create trigger articles_count_deleted after delete on articles referencing old table as deleted
for each statement execute function articles_count_deleted();


create function favorites_prepare() returns trigger language plpgsql as $$
begin
    -- The foreign keys would take these locks too, but in the order of their names after a restore; users come first.
    perform from users where id = new.user_id for key share;
    select created_at into new.article_created_at from articles where id = new.article_id for key share;
    -- Deleted meanwhile: the foreign key shall say so, not a null.
    new.article_created_at := coalesce(new.article_created_at, '-infinity');
    return new;
end
$$;

create trigger favorites_prepare before insert on favorites
for each row execute function favorites_prepare();


create function favorites_count_inserted() returns trigger language plpgsql as $$
begin
    insert into article_counts (article_id, favorites_count)
    select article_id, count(*) from inserted group by article_id order by article_id
    on conflict (article_id) do update set favorites_count = article_counts.favorites_count + excluded.favorites_count;

    insert into user_counts (user_id, favorites_count)
    select user_id, count(*) from inserted group by user_id order by user_id
    on conflict (user_id) do update set favorites_count = user_counts.favorites_count + excluded.favorites_count;
    return null;
end
$$;

create trigger favorites_count_inserted after insert on favorites referencing new table as inserted
for each statement execute function favorites_count_inserted();


create function favorites_count_deleted() returns trigger language plpgsql as $$
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

create trigger favorites_count_deleted after delete on favorites referencing old table as deleted
for each statement execute function favorites_count_deleted();


-- Takes a leaving user's locks in the order above before the cascades take them in theirs.
create function users_prepare_deletion() returns trigger language plpgsql as $$
begin
    -- From here on nobody changes the tags of these articles, and no favorite or comment is added to them.
    perform from articles where author_id = old.id order by id for update;

    perform from tag_counts
    where tag in (select article_tags.tag from article_tags where article_tags.author_id = old.id)
    order by tag for no key update;

    -- The cascade from articles would lock the counts of those who liked them; article_counts precede user_counts.
    delete from favorites where user_id = old.id;
    return old;
end
$$;

create trigger users_prepare_deletion before delete on users
for each row execute function users_prepare_deletion();


-- Truncation fires no row triggers. It is for tests and for starting afresh.
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


-- The rows of a list, without the bodies, in the order of the ids given. One definition for all the lists; it is inlined into
-- each, as a view would be, and could not be a view because of the asking user (null is nobody).
--
-- The planner takes an array it cannot see for ten elements, which is near the truth (at most 100) whatever the size of the
-- tables; from "limit $1" it would guess a tenth of the table and join whole tables.
create function listed_articles(article_ids bigint[], viewer_id uuid)
returns table (
    "position" bigint,
    slug text,
    title text,
    description text,
    tag_list text[],
    created_at timestamptz,
    updated_at timestamptz,
    favorited boolean,
    favorites_count bigint,
    author_username text,
    author_bio text,
    author_image text,
    author_following boolean
)
language sql stable as $$
    select
        page.position,
        articles.slug,
        articles.title,
        articles.description,
        articles.tag_list,
        articles.created_at,
        articles.updated_at,
        exists (
            select from favorites where favorites.article_id = articles.id and favorites.user_id = viewer_id
        ),
        coalesce(article_counts.favorites_count, 0),
        users.username,
        users.bio,
        users.image,
        exists (select from follows where follows.follower_id = viewer_id and follows.followed_id = users.id)
    from unnest(article_ids) with ordinality as page (article_id, position)
    join articles on articles.id = page.article_id
    join users on users.id = articles.author_id
    left join article_counts on article_counts.article_id = articles.id
$$;
