-- name: has_users() -> value
select exists (select from users)

-- name: introduce(id, bio, image) -> none
update users
set bio = $2, image = $3
where id = $1

-- name: create_article(author_id, title, description, body, tag_list, slug, created_at) -> none
-- Requires a slug that no article has. In contrast to articles.create, the article has a past date.
with article as (
    insert into articles
        (author_id, slug, title, description, body, tag_list, created_at, updated_at)
    values ($1, $6, $2, $3, $4, $5, $7, $7)
    returning id
)
insert into article_slugs (slug, article_id)
select $6, id
from article

-- name: create_comment(slug, author_id, body, created_at) -> none
-- In contrast to comments.create, the comment has a past date.
insert into comments (article_id, author_id, body, created_at, updated_at)
select article_id, $2, $3, $4, $4
from article_slugs
where slug = $1
