-- name: set(slug, user_id, is_favorite) -> row
-- Return the article after the change, or no row if there is no such article. A repeated call has
-- no effect. The columns are those of find_by_slug in articles.sql. The statement begins with
-- `with` because it writes: it must not be repeated after a lost connection.
with changed as materialized (
    select article_id, set_favorite(article_id, $2, $3) as favorites_count
    from article_slugs
    where slug = $1
)
select
    articles.id, articles.author_id, articles.slug, articles.title, articles.description,
    articles.body, articles.tag_list,
    unix_microseconds(articles.created_at) as created_at,
    unix_microseconds(articles.updated_at) as updated_at,
    $3 as favorited,
    changed.favorites_count,
    users.username as author_username, users.bio as author_bio, users.image as author_image,
    exists (
        select
        from follows
        where follows.follower_id = $2 and follows.followed_id = articles.author_id
    ) as author_following
from changed
join articles on articles.id = changed.article_id
join users on users.id = articles.author_id
