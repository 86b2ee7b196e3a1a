-- name: create(author_id, title, description, body, tag_list, slug) -> row
-- The slug asked for, or, when it is taken, the same with the article's id. "On conflict" waits for a simultaneous article of
-- that title and then sees it. What is left is a slug with an id that somebody chose as a title before: unique violation on
-- article_slugs_pk; trying again takes the next id. No row: the author's account has been closed meanwhile. The author is locked before
-- the slug (the order of locks stands in migration 0003).
with author as materialized (
    select id, username, bio, image from users where id = $1 and closed_at is null for key share
),
chosen as materialized (
    select nextval(pg_get_serial_sequence('articles', 'id')) as id from author
),
plain as (
    insert into article_slugs (slug, article_id)
    select $6, chosen.id from chosen
    on conflict (slug) do nothing
    returning slug
),
numbered as (
    insert into article_slugs (slug, article_id)
    select $6 || '-' || chosen.id, chosen.id from chosen
    where not exists (select from plain)
    returning slug
),
article as (
    insert into articles (id, author_id, slug, title, description, body, tag_list)
    select chosen.id, author.id, coalesce((select slug from plain), (select slug from numbered)), $2, $3, $4, $5
    from chosen cross join author
    returning id, author_id, slug, title, description, body, tag_list, created_at, updated_at
)
select
    article.id,
    article.author_id,
    article.slug,
    article.title,
    article.description,
    article.body,
    article.tag_list,
    article.created_at,
    article.updated_at,
    false as favorited,
    0::bigint as favorites_count,
    author.username as author_username,
    author.bio as author_bio,
    author.image as author_image,
    exists (select from follows where follows.follower_id = $1 and follows.followed_id = $1) as author_following
from article
cross join author;


-- name: find_by_slug(slug, viewer_id) -> row
-- By its present slug or any it had.
select
    articles.id,
    articles.author_id,
    articles.slug,
    articles.title,
    articles.description,
    articles.body,
    articles.tag_list,
    articles.created_at,
    articles.updated_at,
    exists (
        select from favorites where favorites.article_id = articles.id and favorites.user_id = $2
    ) as favorited,
    coalesce(article_counts.favorites_count, 0) as favorites_count,
    users.username as author_username,
    users.bio as author_bio,
    users.image as author_image,
    exists (
        select from follows where follows.follower_id = $2 and follows.followed_id = articles.author_id
    ) as author_following
from article_slugs
join articles on articles.id = article_slugs.article_id
join users on users.id = articles.author_id
left join article_counts on article_counts.article_id = articles.id
where article_slugs.slug = $1;


-- name: find_owner(slug) -> row
-- For a deletion, which needs no more than this and then delete.
select articles.id, articles.author_id
from article_slugs
join articles on articles.id = article_slugs.article_id
where article_slugs.slug = $1;


-- name: lock_by_slug(slug) -> row
-- First statement of an update's transaction. The second must not be the same statement: one that waited for another edit would
-- still see the slugs as they were before it.
select articles.id, articles.author_id
from article_slugs
join articles on articles.id = article_slugs.article_id
where article_slugs.slug = $1
for no key update of articles;


-- name: update(article_id, title, description, body, tag_list, slug) -> value
-- Of an article locked by lock_by_slug. Null means "not given": none of these may be null in an article. The slug is given when
-- the title is. A slug the article has or had (plain or numbered) is taken up again; otherwise as in create. The old slug stays
-- and keeps leading here. Returns the present slug.
with present as materialized (
    select id, slug from articles where id = $1
),
own as materialized (
    select article_slugs.slug
    from article_slugs
    join present on present.id = article_slugs.article_id
    where article_slugs.slug in ($6, $6 || '-' || present.id)
    order by article_slugs.slug = present.slug desc, length(article_slugs.slug)
    limit 1
),
plain as (
    insert into article_slugs (slug, article_id)
    select $6, present.id from present
    where $6 is not null and not exists (select from own)
    on conflict (slug) do nothing
    returning slug
),
numbered as (
    insert into article_slugs (slug, article_id)
    select $6 || '-' || present.id, present.id from present
    where $6 is not null and not exists (select from own) and not exists (select from plain)
    returning slug
)
update articles
set
    slug = coalesce((select slug from own), (select slug from plain), (select slug from numbered), articles.slug),
    title = coalesce($2, articles.title),
    description = coalesce($3, articles.description),
    body = coalesce($4, articles.body),
    tag_list = coalesce($5, articles.tag_list),
    -- Later in what the API shows, too, when two updates fall into one millisecond.
    updated_at = greatest(now(), articles.updated_at + interval '1 millisecond')
from present
where articles.id = present.id
returning articles.slug;


-- name: delete(article_id) -> value
-- False when the article had too much to remove in one short transaction: run again. Starts with `with` since it writes.
with chosen as materialized (
    select array[$1::bigint] as article_ids
)
select remove_articles(article_ids) from chosen;
