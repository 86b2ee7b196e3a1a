-- Lists by two or three filters, in the shape of listing.sql. No counts are kept for combinations:
-- each statement counts the matching articles in indexes, at the cost that its comment names.

-- name: list_by_tag_and_author(tag, username_key, viewer_id, limit, offset) -> rows
-- Count in an index range that has only the matching articles.
with total as materialized (
    select author.id as author_id, count(article_tags.article_id) as articles_count
    from (select (select id from users where username_key = $2) as id) as author
    left join article_tags on article_tags.author_id = author.id and article_tags.tag = $1
    group by author.id
),
list as materialized (
    select
        total.articles_count,
        array(
            select article_id
            from article_tags
            where author_id = total.author_id and tag = $1
            order by created_at desc, article_id desc
            limit case when $5::bigint < total.articles_count then $4::bigint else 0 end
            offset $5::bigint
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
left join lateral listed_articles(list.article_ids, $3) as page on true
order by page.position

-- name: list_by_tag_and_favorited(tag, favorited_key, viewer_id, limit, offset) -> rows
-- Look up each of the reader's favorites among the articles of the tag: the cost grows with the
-- number of these favorites. `offset 0` prevents the planner from turning the lookups into a merge
-- that reads the whole tag.
with matched as materialized (
    select favorites.article_id, favorites.article_created_at as created_at
    from favorites
    cross join lateral (
        select
        from article_tags
        where article_tags.tag = $1
            and article_tags.created_at = favorites.article_created_at
            and article_tags.article_id = favorites.article_id
        offset 0
    ) as tagged
    where favorites.user_id = (select id from users where username_key = $2)
),
list as materialized (
    select
        (select count(*) from matched) as articles_count,
        array(
            select article_id
            from matched
            order by created_at desc, article_id desc
            limit $4::bigint
            offset $5::bigint
        ) as article_ids
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $3) as page on true
order by page.position

-- name: list_by_author_and_favorited(username_key, favorited_key, viewer_id, limit, offset) -> rows
-- There are two sets: the author's articles and the reader's favorites. Look up the smaller set in
-- the larger one; the kept counts decide which one is smaller. `offset 0` keeps the lookups, as in
-- list_by_tag_and_favorited.
with author as materialized (
    select users.id, coalesce(user_counts.articles_count, 0) as size
    from users
    left join user_counts on user_counts.user_id = users.id
    where users.username_key = $1
),
reader as materialized (
    select users.id, coalesce(user_counts.favorites_count, 0) as size
    from users
    left join user_counts on user_counts.user_id = users.id
    where users.username_key = $2
),
matched as materialized (
    select articles.id as article_id, articles.created_at
    from author
    cross join reader
    join articles on articles.author_id = author.id
    cross join lateral (
        select
        from favorites
        where favorites.article_id = articles.id and favorites.user_id = reader.id
        offset 0
    ) as liked
    where author.size <= reader.size
    union all
    select favorites.article_id, favorites.article_created_at
    from author
    cross join reader
    join favorites on favorites.user_id = reader.id
    cross join lateral (
        select
        from articles
        where articles.author_id = author.id
            and articles.created_at = favorites.article_created_at
            and articles.id = favorites.article_id
        offset 0
    ) as written
    where author.size > reader.size
),
list as materialized (
    select
        (select count(*) from matched) as articles_count,
        array(
            select article_id
            from matched
            order by created_at desc, article_id desc
            limit $4::bigint
            offset $5::bigint
        ) as article_ids
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $3) as page on true
order by page.position

-- name: list_by_tag_author_favorited(tag, username_key, favorited_key, viewer_id, limit,
--     offset) -> rows
-- Look up each of the author's articles of that tag among the reader's favorites.
with matched as materialized (
    select article_tags.article_id, article_tags.created_at
    from article_tags
    join favorites
        on favorites.article_id = article_tags.article_id
        and favorites.user_id = (select id from users where username_key = $3)
    where article_tags.author_id = (select id from users where username_key = $2)
        and article_tags.tag = $1
),
list as materialized (
    select
        (select count(*) from matched) as articles_count,
        array(
            select article_id
            from matched
            order by created_at desc, article_id desc
            limit $5::bigint
            offset $6::bigint
        ) as article_ids
)
select
    list.articles_count,
    page.slug, page.title, page.description, page.tag_list,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.favorited, page.favorites_count,
    page.author_username, page.author_bio, page.author_image, page.author_following
from list
left join lateral listed_articles(list.article_ids, $4) as page on true
order by page.position
