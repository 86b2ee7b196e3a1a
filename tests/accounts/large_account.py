"""An account with more rows of every kind than one batch of its removal deletes."""

import asyncpg

MANY = 2300  # More than two batches of any kind.


async def fill(db: asyncpg.Connection) -> None:
    """Insert more rows of every kind for Alice, who is registered, than a batch deletes."""
    await db.execute(
        f"""
        insert into users (username, username_key, email, email_key, password_hash)
        select n, n, n, n, '' from (select 'reader' || generate_series(1, {MANY}) as n) as named;

        insert into articles (author_id, slug, title, description, body, tag_list)
        select users.id, 'slug-' || n, 'Title', 'About', 'Text', array['a', 'tag-' || n % 7]
        from users cross join generate_series(1, 230) as n
        where username = 'alice';

        insert into articles (author_id, slug, title, description, body, tag_list)
        select users.id, 'of-' || username, 'Title', 'About', 'Text', array['a', 'b']
        from users
        where username like 'reader%';

        insert into article_slugs (slug, article_id) select slug, id from articles;

        insert into article_slugs (slug, article_id)
        select 'former-' || n, articles.id
        from articles cross join generate_series(1, {MANY}) as n
        where slug = 'slug-3';

        insert into favorites (user_id, article_id)
        select users.id, articles.id
        from users cross join articles
        where username like 'reader%' and slug in ('slug-1', 'of-reader1');

        insert into favorites (user_id, article_id)
        select users.id, articles.id
        from users cross join articles
        where username = 'alice' and slug <> 'slug-9';

        insert into comments (article_id, author_id, body)
        select articles.id, users.id, 'x'
        from users cross join articles
        where (username like 'reader%' and slug = 'slug-2')
            or (username = 'alice' and slug <> 'slug-9');

        insert into follows (follower_id, followed_id)
        select one.id, other.id
        from users as one cross join users as other
        where one.id <> other.id and 'alice' in (one.username, other.username);

        with opened as (
            insert into sessions (user_id, expires_at, idle_expires_at)
            select id, now() + interval '1 day', now() + interval '1 day'
            from users cross join generate_series(1, {MANY})
            where username = 'alice'
            returning id
        )
        insert into refresh_tokens (digest, session_id, generation)
        select decode(md5(id::text), 'hex'), id, 0 from opened
        """  # noqa: S608
    )
