-- Delete articles with everything that belongs to them and return true. If that is more than 1,000
-- favorites, comments or former slugs, or 4 MiB of comments, delete only that much and return
-- false: call the function again.
--
-- This is a function because it runs several statements in one transaction: a statement that begins
-- after the articles were locked sees the rows as they are then. It acquires every lock in the
-- order of 0008_conduit_counts, before the cascades and the triggers acquire them in another order.
create function remove_articles(article_ids bigint[]) returns boolean language plpgsql as $$
declare
    max_rows constant integer := 1000;
    max_bytes constant integer := 4194304;
    favorite_article_ids bigint[];
    favorite_user_ids uuid[];
    comment_ids bigint[];
    former_slugs text[];
    is_complete boolean;
begin
    -- From here on, no favorite or comment can be added to these articles, and their tags cannot
    -- change.
    perform from articles where id = any (article_ids) order by id for update;

    select array_agg(article_id), array_agg(user_id)
    into favorite_article_ids, favorite_user_ids
    from (
        select article_id, user_id
        from favorites
        where article_id = any (article_ids)
        limit max_rows
        for update
    ) as chosen;

    -- pg_column_size returns the size of the compressed text, which a deletion has to touch.
    select
        array_agg(id) filter (where bytes_before < max_bytes),
        count(*) < max_rows and coalesce(max(bytes_before) < max_bytes, true)
    into comment_ids, is_complete
    from (
        select id, sum(bytes) over (rows unbounded preceding) - bytes as bytes_before
        from (
            select id, pg_column_size(body) as bytes
            from comments
            where article_id = any (article_ids)
            limit max_rows
        ) as sized
    ) as summed;

    former_slugs := array(
        select article_slugs.slug
        from articles
        join article_slugs
            on article_slugs.article_id = articles.id and article_slugs.slug <> articles.slug
        where articles.id = any (article_ids)
        limit max_rows
    );
    is_complete := is_complete
        and coalesce(cardinality(favorite_article_ids), 0) < max_rows
        and cardinality(former_slugs) < max_rows;

    if is_complete then
        perform from tag_counts
        where tag = any (
            array(
                select unnest(articles.tag_list)
                from articles
                where articles.id = any (article_ids)
            )
        )
        order by tag
        for no key update;
    end if;
    perform from article_counts
    where article_id = any (article_ids)
    order by article_id
    for update;
    perform from user_counts
    where user_id = any (
        favorite_user_ids || array(select author_id from articles where id = any (article_ids))
    )
    order by user_id
    for no key update;

    delete from favorites
    using unnest(favorite_article_ids, favorite_user_ids) as chosen (article_id, user_id)
    where favorites.article_id = chosen.article_id and favorites.user_id = chosen.user_id;
    delete from comments where id = any (comment_ids);
    delete from article_slugs where slug = any (former_slugs);
    if is_complete then
        delete from articles where id = any (article_ids);
    end if;
    return is_complete;
end
$$;
