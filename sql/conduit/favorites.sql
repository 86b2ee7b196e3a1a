-- name: add(slug, user_id) -> value
-- The article's id, null when there is none; adding twice is adding. The answer to the client is a find_by_slug afterwards,
-- because triggers count only when this statement has ended.
with article as materialized (
    select article_id as id from article_slugs where slug = $1
),
added as (
    insert into favorites (user_id, article_id)
    select $2, article.id from article
    on conflict (article_id, user_id) do nothing
)
select id from article;


-- name: remove(slug, user_id) -> value
with article as materialized (
    select article_id as id from article_slugs where slug = $1
),
removed as (
    delete from favorites
    using article
    where favorites.article_id = article.id and favorites.user_id = $2
)
select id from article;
