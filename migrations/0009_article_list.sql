-- Return the rows of a list, without the bodies, in the order of the ids. All lists share this
-- definition. PostgreSQL inlines it into each query, as it would a view. It cannot be a view
-- because of the parameter `viewer_id` (null: no user is logged in).
--
-- The planner assumes ten elements for an array that it cannot see. That is near the truth (at most
-- 100) whatever the size of the tables. For "limit $1" it would assume a tenth of the table and
-- join whole tables.
create function listed_articles(article_ids bigint[], viewer_id uuid)
returns table (
    "position" bigint,
    slug text,
    title text,
    description text,
    tag_list text[],
    created_at timestamptz,
    updated_at timestamptz,
    favorited boolean,
    favorites_count bigint,
    author_username text,
    author_bio text,
    author_image text,
    author_following boolean
)
language sql stable as $$
    select
        page.position,
        articles.slug,
        articles.title,
        articles.description,
        articles.tag_list,
        articles.created_at,
        articles.updated_at,
        exists (
            select
            from favorites
            where favorites.article_id = articles.id and favorites.user_id = viewer_id
        ),
        coalesce(article_counts.favorites_count, 0),
        users.username,
        users.bio,
        users.image,
        exists (
            select
            from follows
            where follows.follower_id = viewer_id and follows.followed_id = users.id
        )
    from unnest(article_ids) with ordinality as page (article_id, position)
    join articles on articles.id = page.article_id
    join users on users.id = articles.author_id
    left join article_counts on article_counts.article_id = articles.id
$$;
