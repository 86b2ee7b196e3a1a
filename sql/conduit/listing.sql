-- The lists of articles. Each is one statement of one shape:
--
--     list    one row: the exact number of articles and the ids of the page, from an index only
--     page    the wide rows of those ids (function listed_articles)
--
-- The first row always exists and has articles_count; its slug is null if the page is empty. Beyond
-- the end (`offset` not below the count) the limit is 0, so that no row is read and skipped. Each
-- combination of filters has its own statement instead of `$1 is null or ...`, so that one plan,
-- made once, fits every call.

-- name: list_all(viewer_id, limit, offset) -> rows
with total as materialized (
    select coalesce(sum(articles_count), 0)::bigint as articles_count
    from article_totals
),
list as materialized (
    select
        total.articles_count,
        array(
            select id
            from articles
            order by created_at desc, id desc
            limit case when $3::bigint < total.articles_count then $2::bigint else 0 end
            offset $3::bigint
        ) as article_ids
    from total
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $1) as page on true
order by page.position

-- name: list_by_tag(tag, viewer_id, limit, offset) -> rows
with total as materialized (
    select coalesce((select articles_count from tag_counts where tag = $1), 0) as articles_count
),
list as materialized (
    select
        total.articles_count,
        array(
            select article_id
            from article_tags
            where tag = $1
            order by created_at desc, article_id desc
            limit case when $4::bigint < total.articles_count then $3::bigint else 0 end
            offset $4::bigint
        ) as article_ids
    from total
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $2) as page on true
order by page.position

-- name: list_by_author(username_key, viewer_id, limit, offset) -> rows
with author as materialized (
    select (select id from users where username_key = $1) as id
),
total as materialized (
    select
        author.id as author_id,
        coalesce(
            (select articles_count from user_counts where user_id = author.id), 0
        ) as articles_count
    from author
),
list as materialized (
    select
        total.articles_count,
        array(
            select id
            from articles
            where author_id = total.author_id
            order by created_at desc, id desc
            limit case when $4::bigint < total.articles_count then $3::bigint else 0 end
            offset $4::bigint
        ) as article_ids
    from total
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $2) as page on true
order by page.position

-- name: list_by_favorited(favorited_key, viewer_id, limit, offset) -> rows
with reader as materialized (
    select (select id from users where username_key = $1) as id
),
total as materialized (
    select
        reader.id as user_id,
        coalesce(
            (select favorites_count from user_counts where user_id = reader.id), 0
        ) as articles_count
    from reader
),
list as materialized (
    select
        total.articles_count,
        array(
            select article_id
            from favorites
            where user_id = total.user_id
            order by article_created_at desc, article_id desc
            limit case when $4::bigint < total.articles_count then $3::bigint else 0 end
            offset $4::bigint
        ) as article_ids
    from total
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $2) as page on true
order by page.position

-- name: list_feed(viewer_id, limit, offset) -> rows
-- Merge the newest articles of each followed author. A page costs about offset + limit index
-- entries and one entry for each followed author, however many articles the authors have. Let
-- `reach` be offset + limit. The newest `reach` articles have at most `reach` authors, so:
--
-- 1. sample: the newest articles of the `reach` authors with the latest articles. Each author gives
--    about twice their expected share of the newest `reach` articles.
-- 2. since: the time of the `reach`-th newest article in the sample. The `reach`-th newest article
--    of all authors cannot be older, so no article of the page is older than `since`.
-- 3. candidates: the sampled articles that are not older than `since`, and all other articles that
--    are not older, of the authors that may have them. These are the authors whose sampled articles
--    are all that new, and the authors outside the sample with an article that is that new.
--
-- The count is the sum of the authors' kept counts.
with followed as materialized (
    select follows.followed_id as author_id, user_counts.articles_count, user_counts.articles_until
    from follows
    join user_counts on user_counts.user_id = follows.followed_id
    where follows.follower_id = $1 and user_counts.articles_count > 0
),
counted as materialized (
    select coalesce(sum(articles_count), 0)::bigint as articles_count
    from followed
),
total as materialized (
    select
        articles_count,
        case
            when $3::bigint < articles_count then least($3::bigint, articles_count) + $2::bigint
            else 0
        end as reach
    from counted
),
sample as materialized (
    select latest.author_id, newest.id, newest.created_at
    from total
    cross join lateral (
        select author_id, articles_count
        from followed
        order by articles_until desc
        limit total.reach
    ) as latest
    cross join lateral (
        select articles.id, articles.created_at
        from articles
        where articles.author_id = latest.author_id
        order by articles.created_at desc, articles.id desc
        limit 2 * total.reach * latest.articles_count / total.articles_count + 2
    ) as newest
),
since as materialized (
    select coalesce(
        (
            select created_at
            from sample
            order by created_at desc
            limit 1
            offset greatest(total.reach - 1, 0)
        ),
        '-infinity'
    ) as created_at
    from total
),
candidates as materialized (
    select sample.id, sample.created_at
    from sample
    where sample.created_at >= (select created_at from since)
    union
    select more.id, more.created_at
    from total
    cross join since
    cross join followed
    left join (
        select author_id, min(created_at) as created_at
        from sample
        group by author_id
    ) as sampled on sampled.author_id = followed.author_id
    cross join lateral (
        select articles.id, articles.created_at
        from articles
        where articles.author_id = followed.author_id
            and articles.created_at
                between since.created_at and coalesce(sampled.created_at, 'infinity')
        order by articles.created_at desc, articles.id desc
        limit total.reach
    ) as more
    where total.reach > 0
        and followed.articles_until >= since.created_at
        and coalesce(sampled.created_at, 'infinity') >= since.created_at
),
list as materialized (
    select
        total.articles_count,
        array(
            select id
            from candidates
            order by created_at desc, id desc
            limit $2::bigint
            offset case when total.reach > 0 then $3::bigint else 0 end
        ) as article_ids
    from total
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $1) as page on true
order by page.position
