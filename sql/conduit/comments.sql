-- name: list(slug, viewer_id, limit, offset, max_bytes) -> rows
-- Return no row if there is no such article, and one row with a null id if the article has no
-- (further) comments. The last comment is the one that reaches max_bytes. For a long text that is
-- stored out of line, octet_length reads only the size: only the texts that fit are fetched.
select
    page.id, page.body,
    unix_microseconds(page.created_at) as created_at,
    unix_microseconds(page.updated_at) as updated_at,
    page.username as author_username, page.bio as author_bio, page.image as author_image,
    exists (
        select
        from follows
        where follows.follower_id = $2 and follows.followed_id = page.author_id
    ) as author_following
from article_slugs
left join lateral (
    select
        listed.*,
        users.username, users.bio, users.image,
        sum(
            octet_length(listed.body)
            + coalesce(octet_length(users.bio), 0)
            + coalesce(octet_length(users.image), 0)
        ) over (
            order by listed.created_at desc, listed.id desc
            rows between unbounded preceding and 1 preceding
        ) as bytes_before
    from (
        select
            comments.id, comments.body, comments.created_at, comments.updated_at,
            comments.author_id
        from comments
        where comments.article_id = article_slugs.article_id
        order by comments.created_at desc, comments.id desc
        limit $3::bigint
        offset $4::bigint
    ) as listed
    join users on users.id = listed.author_id
) as page on coalesce(page.bytes_before, 0) < $5::bigint
where article_slugs.slug = $1
order by page.created_at desc, page.id desc

-- name: create(slug, author_id, body) -> row
-- Return no row if there is no such article. Lock the author before the article, as every
-- transaction does (migration 0008). The foreign keys alone would lock in the order of their names.
with author as materialized (
    select id, username, bio, image
    from users
    where id = $2 and closed_at is null
    for key share
),
article as materialized (
    select articles.id
    from author
    cross join article_slugs
    join articles on articles.id = article_slugs.article_id
    where article_slugs.slug = $1
    for key share of articles
),
comment as (
    insert into comments (article_id, author_id, body)
    select article.id, author.id, $3
    from author
    cross join article
    returning id, body, created_at, updated_at
)
select
    comment.id, comment.body,
    unix_microseconds(comment.created_at) as created_at,
    unix_microseconds(comment.updated_at) as updated_at,
    author.username as author_username, author.bio as author_bio, author.image as author_image,
    exists (
        select
        from follows
        where follows.follower_id = $2 and follows.followed_id = $2
    ) as author_following
from comment
cross join author

-- name: find_owner(slug, comment_id) -> row
-- Return no row if there is no such article, and a null author if the article has no such comment.
select article_slugs.article_id, comments.id, comments.author_id
from article_slugs
left join comments on comments.id = $2 and comments.article_id = article_slugs.article_id
where article_slugs.slug = $1

-- name: delete(comment_id) -> none
delete from comments
where id = $1
