-- name: find_wrong() -> rows
-- Compare every kept count, and the tag index, with the rows it is derived from. Only for tests,
-- since it reads whole tables.
select
    'tag_counts' as name, coalesce(kept.tag, found.tag) as key,
    kept.articles_count as kept, found.articles_count as found
from tag_counts as kept
full join (
    select tag, count(distinct articles.id) as articles_count
    from articles
    cross join unnest(articles.tag_list) as tag
    group by tag
) as found on found.tag = kept.tag
where coalesce(kept.articles_count, 0) <> coalesce(found.articles_count, 0)
union all
select 'article_tags', coalesce(kept.tag, found.tag), kept.article_id, found.id
from article_tags as kept
full join (
    select distinct tag, articles.created_at, articles.id, articles.author_id
    from articles
    cross join unnest(articles.tag_list) as tag
) as found
    on found.tag = kept.tag
    and found.created_at = kept.created_at
    and found.id = kept.article_id
    and found.author_id = kept.author_id
where kept.tag is null or found.tag is null
union all
select
    'article_counts', coalesce(kept.article_id, found.article_id)::text,
    kept.favorites_count, found.favorites_count
from article_counts as kept
full join (
    select article_id, count(*) as favorites_count
    from favorites
    group by article_id
) as found on found.article_id = kept.article_id
where coalesce(kept.favorites_count, 0) <> coalesce(found.favorites_count, 0)
union all
select
    'user_counts.articles_count', coalesce(kept.user_id, found.author_id)::text,
    kept.articles_count, found.articles_count
from user_counts as kept
full join (
    select author_id, count(*) as articles_count
    from articles
    group by author_id
) as found on found.author_id = kept.user_id
where coalesce(kept.articles_count, 0) <> coalesce(found.articles_count, 0)
union all
select
    'user_counts.favorites_count', coalesce(kept.user_id, found.user_id)::text,
    kept.favorites_count, found.favorites_count
from user_counts as kept
full join (
    select user_id, count(*) as favorites_count
    from favorites
    group by user_id
) as found on found.user_id = kept.user_id
where coalesce(kept.favorites_count, 0) <> coalesce(found.favorites_count, 0)
union all
select 'article_totals', '', kept.articles_count, found.articles_count
from (select coalesce(sum(articles_count), 0)::bigint as articles_count from article_totals) as kept
cross join (select count(*) as articles_count from articles) as found
where kept.articles_count <> found.articles_count
union all
select 'user_counts.articles_until', articles.author_id::text, null, articles.id
from articles
left join user_counts on user_counts.user_id = articles.author_id
where user_counts.articles_until is null or user_counts.articles_until < articles.created_at
union all
select 'favorites.article_created_at', favorites.article_id::text, null, null
from favorites
join articles on articles.id = favorites.article_id
where articles.created_at <> favorites.article_created_at
union all
select 'articles.slug', articles.slug, articles.id, article_slugs.article_id
from articles
left join article_slugs on article_slugs.slug = articles.slug
where article_slugs.article_id is distinct from articles.id
order by name, key
