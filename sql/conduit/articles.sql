-- name: create(author_id, title, description, body, tag_list, slug) -> row
-- Take the given slug or, if that is taken, the slug numbered with the article's id. `on conflict`
-- waits for a concurrent article with the same title and then sees its slug. One conflict remains:
-- a user chose the numbered slug as a title before. It raises a unique violation on
-- article_slugs_pkey, and a retry takes the next id. Return no row if the author's account was
-- closed in between. Lock the author before the slug (migration 0008 defines the lock order).
with author as materialized (
    select id, username, bio, image
    from users
    where id = $1 and closed_at is null
    for key share
),
chosen as materialized (
    select nextval(pg_get_serial_sequence('articles', 'id')) as id
    from author
),
plain as (
    insert into article_slugs (slug, article_id)
    select $6, chosen.id
    from chosen
    on conflict (slug) do nothing
    returning slug
),
numbered as (
    insert into article_slugs (slug, article_id)
    select $6 || '-' || chosen.id, chosen.id
    from chosen
    where not exists (select from plain)
    returning slug
),
article as (
    insert into articles (id, author_id, slug, title, description, body, tag_list)
    select
        chosen.id, author.id, coalesce((select slug from plain), (select slug from numbered)),
        $2, $3, $4, $5
    from chosen
    cross join author
    returning id, author_id, slug, title, description, body, tag_list, created_at, updated_at
)
select
    article.id, article.author_id, article.slug, article.title, article.description, article.body,
    article.tag_list,
    unix_microseconds(article.created_at) as created_at,
    unix_microseconds(article.updated_at) as updated_at,
    false as favorited,
    0::bigint as favorites_count,
    author.username as author_username, author.bio as author_bio, author.image as author_image,
    exists (
        select
        from follows
        where follows.follower_id = $1 and follows.followed_id = $1
    ) as author_following
from article
cross join author

-- name: find_by_slug(slug, viewer_id) -> row
-- Find the article by its current slug or any earlier one.
select
    articles.id, articles.author_id, articles.slug, articles.title, articles.description,
    articles.body, articles.tag_list,
    unix_microseconds(articles.created_at) as created_at,
    unix_microseconds(articles.updated_at) as updated_at,
    exists (
        select
        from favorites
        where favorites.article_id = articles.id and favorites.user_id = $2
    ) as favorited,
    coalesce(article_counts.favorites_count, 0) as favorites_count,
    users.username as author_username, users.bio as author_bio, users.image as author_image,
    exists (
        select
        from follows
        where follows.follower_id = $2 and follows.followed_id = articles.author_id
    ) as author_following
from article_slugs
join articles on articles.id = article_slugs.article_id
join users on users.id = articles.author_id
left join article_counts on article_counts.article_id = articles.id
where article_slugs.slug = $1

-- name: find_owner(slug) -> row
-- For a deletion: this query and `delete` are all that it needs.
select articles.id, articles.author_id
from article_slugs
join articles on articles.id = article_slugs.article_id
where article_slugs.slug = $1

-- name: lock_by_slug(slug) -> row
-- The first statement of an update's transaction. `update` must be a statement of its own: a
-- statement that waited for another edit would still see the slugs from before that edit.
select articles.id, articles.author_id
from article_slugs
join articles on articles.id = article_slugs.article_id
where article_slugs.slug = $1
for no key update of articles

-- name: update(article_id, title, description, body, tag_list, slug) -> value
-- Requires the lock of lock_by_slug. Null means "not given", since none of these columns can be
-- null. The slug is given if the title is given. Reuse a slug that the article has or had (plain
-- or numbered); otherwise take a slug as `create` does. The old slug stays and still leads to the
-- article. Return the current slug.
with present as materialized (
    select id, slug
    from articles
    where id = $1
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
    select $6, present.id
    from present
    where $6 is not null and not exists (select from own)
    on conflict (slug) do nothing
    returning slug
),
numbered as (
    insert into article_slugs (slug, article_id)
    select $6 || '-' || present.id, present.id
    from present
    where $6 is not null and not exists (select from own) and not exists (select from plain)
    returning slug
)
update articles
set slug = coalesce(
        (select slug from own),
        (select slug from plain),
        (select slug from numbered),
        articles.slug
    ),
    title = coalesce($2, articles.title),
    description = coalesce($3, articles.description),
    body = coalesce($4, articles.body),
    tag_list = coalesce($5, articles.tag_list),
    -- The API shows milliseconds: the time must increase even for two updates within one.
    updated_at = greatest(now(), articles.updated_at + interval '1 millisecond')
from present
where articles.id = present.id
returning articles.slug

-- name: delete(article_id) -> value
-- Return false if the article had too much to remove in one short transaction: run it again.
-- Starts with `with` because it writes: it must not be repeated after a lost connection.
with chosen as materialized (
    select array[$1::bigint] as article_ids
)
select remove_articles(article_ids)
from chosen
