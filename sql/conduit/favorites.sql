-- name: add(slug, user_id) -> value
-- Return the article's id, or null if there is no such article. A repeated call has no effect. The
-- response to the client needs a find_by_slug afterwards, because the triggers count only after
-- this statement has ended.
with article as materialized (
    select article_id as id
    from article_slugs
    where slug = $1
),
added as (
    insert into favorites (user_id, article_id)
    select $2, article.id
    from article
    on conflict (article_id, user_id) do nothing
)
select id
from article

-- name: remove(slug, user_id) -> value
with article as materialized (
    select article_id as id
    from article_slugs
    where slug = $1
),
removed as (
    delete from favorites
    using article
    where favorites.article_id = article.id and favorites.user_id = $2
)
select id
from article
