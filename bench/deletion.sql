-- The steps of bench/deletion.py, in their order: the account to delete and all that belongs to it.

-- step: user
insert into users (id, username, username_key, email, email_key, password_hash)
values (
    md5('leaver')::uuid, 'leaver', 'leaver', 'leaver@example.com', 'leaver@example.com',
    %(password_hash)s
)

-- step: articles
insert into articles (id, author_id, slug, title, description, body, tag_list, created_at)
select
    nextval(pg_get_serial_sequence('articles', 'id')), md5('leaver')::uuid, 'left-behind-' || n,
    'Left behind ' || n, 'What it says in the title', repeat(md5(n::text) || ' ', 30),
    array['tag-1', 'tag-' || 2 + n %% 10, 'tag-' || 12 + n %% 50],
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
from generate_series(1, %(articles)s::bigint) as n

-- step: slugs
insert into article_slugs (slug, article_id)
select slug, id from articles where author_id = md5('leaver')::uuid

-- step: favorites of others
insert into favorites (user_id, article_id)
select md5('user ' || 1 + id %% 300)::uuid, id from articles where author_id = md5('leaver')::uuid

-- step: comments of others
insert into comments (article_id, author_id, body)
select id, md5('user ' || 1 + id %% 300)::uuid, 'Well said.'
from articles
where author_id = md5('leaver')::uuid

-- step: favorites of their own
insert into favorites (user_id, article_id)
select md5('leaver')::uuid, id
from articles
where author_id <> md5('leaver')::uuid
order by id
limit 10000

-- step: followers
insert into follows (follower_id, followed_id)
select id, md5('leaver')::uuid from users where id <> md5('leaver')::uuid
