-- name: list(slug, viewer_id, limit, offset) -> rows
-- No row: no such article. One row whose id is null: an article without (further) comments.
select
    page.id,
    page.body,
    page.created_at,
    page.updated_at,
    users.username as author_username,
    users.bio as author_bio,
    users.image as author_image,
    exists (
        select from follows where follows.follower_id = $2 and follows.followed_id = page.author_id
    ) as author_following
from article_slugs
left join lateral (
    select comments.id, comments.body, comments.created_at, comments.updated_at, comments.author_id
    from comments
    where comments.article_id = article_slugs.article_id
    order by comments.created_at desc, comments.id desc
    limit $3::bigint
    offset $4::bigint
) as page on true
left join users on users.id = page.author_id
where article_slugs.slug = $1
order by page.created_at desc, page.id desc;


-- name: create(slug, author_id, body) -> row
-- No row: no such article. Locks the author before the article, as everything does (migration 0003); the foreign keys alone would
-- do it in the order of their names.
with author as materialized (
    select id, username, bio, image from users where id = $2 for key share
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
    from author cross join article
    returning id, body, created_at, updated_at
)
select
    comment.id,
    comment.body,
    comment.created_at,
    comment.updated_at,
    author.username as author_username,
    author.bio as author_bio,
    author.image as author_image,
    exists (select from follows where follows.follower_id = $2 and follows.followed_id = $2) as author_following
from comment cross join author;


-- name: find_owner(slug, comment_id) -> row
-- No row: no such article. An author that is null: the article has no such comment.
select article_slugs.article_id, comments.id, comments.author_id
from article_slugs
left join comments on comments.id = $2 and comments.article_id = article_slugs.article_id
where article_slugs.slug = $1;


-- name: delete(comment_id) -> none
delete from comments where id = $1;
