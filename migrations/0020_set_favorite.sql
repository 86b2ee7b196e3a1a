-- Add or remove a favorite, and return the article's number of favorites after it. A repeated call
-- has no effect.
--
-- This is a function because the triggers count after the statement that writes has ended. Only a
-- statement that begins later, here within the same round trip, sees the new count.
create function set_favorite(article_id bigint, user_id uuid, is_favorite boolean) returns bigint
language plpgsql as $$
begin
    if set_favorite.is_favorite then
        insert into favorites (user_id, article_id)
        values (set_favorite.user_id, set_favorite.article_id)
        on conflict on constraint favorites_pkey do nothing;
    else
        delete from favorites
        where favorites.user_id = set_favorite.user_id
            and favorites.article_id = set_favorite.article_id;
    end if;
    return coalesce(
        (
            select favorites_count
            from article_counts
            where article_counts.article_id = set_favorite.article_id
        ),
        0
    );
end
$$;
