-- The steps of bench/fill.py, in their order. Users 11 to 20 follow exactly 200 others, and the first
-- ten articles have exactly 500 comments.

-- step: users
insert into users (
    id, username, username_key, email, email_key, password_hash, bio, image
)
select pg_temp.user_id(n), 'user' || n, 'user' || n,
    'user' || n || '@example.com', 'user' || n || '@example.com', %(password_hash)s,
    case when n %% 3 > 0 then repeat('I write. ', (n %% 12)::int) end,
    case when n %% 2 > 0 then 'https://images.example.com/' || n || '.jpg' end
from generate_series(1, %(users)s::bigint) as n

-- step: articles (in chunks, 1 an article)
insert into articles (id, author_id, slug, title, description, body, tag_list, created_at, updated_at)
select n, pg_temp.user_id(pg_temp.rank(%(users)s)), 'how-to-do-the-thing-number-' || n,
    'How to do the thing number ' || n, 'What it says in the title, ' || repeat('and more ', (n %% 10)::int),
    repeat(md5(n::text) || ' ', 8 + (random() * 60)::int),
    array(
        select distinct 'tag-' || pg_temp.rank(%(tags)s) from generate_series(1, n %% 6)
    ),
    timestamptz '2021-01-01 00:00+00' + n * (interval '5 years' / %(articles)s),
    timestamptz '2021-01-01 00:00+00' + n * (interval '5 years' / %(articles)s)
from generate_series(%(first)s::bigint, %(last)s::bigint) as n

-- step: slugs
insert into article_slugs (slug, article_id) select slug, id from articles order by id

-- step: tags of articles
insert into article_tags (tag, created_at, article_id, author_id)
select tag, created_at, id, author_id from articles cross join unnest(tag_list) as tag

-- step: favorites (in chunks, 3 an article)
insert into favorites (user_id, article_id, article_created_at)
select pg_temp.user_id(user_rank), id, created_at
from (
    select distinct pg_temp.rank(%(users)s) as user_rank,
        1 + (pg_temp.rank(%(articles)s) * 7919 + n %% 3) %% %(articles)s as article_id
    from generate_series(%(first)s::bigint, %(last)s::bigint) as n
    union
    select distinct pg_temp.rank(%(users)s), 1 + floor(random() * %(articles)s)::bigint
    from generate_series(%(first)s::bigint, %(last)s::bigint)
) as drawn
join articles on articles.id = drawn.article_id
on conflict (article_id, user_id) do nothing

-- step: comments (in chunks, 2 an article)
insert into comments (article_id, author_id, body, created_at, updated_at)
select article_id, pg_temp.user_id(pg_temp.rank(%(users)s)), repeat('Well said. ', (n %% 20)::int + 1),
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second',
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
from (
    select n, 10 + 1 + (pg_temp.rank(%(articles)s) * 7919 + n) %% (%(articles)s - 10)
    from generate_series(%(first)s::bigint, %(last)s::bigint) as n
) as drawn (n, article_id)

-- step: 500 comments each
insert into comments (article_id, author_id, body, created_at, updated_at)
select article, pg_temp.user_id(pg_temp.rank(%(users)s)), repeat('Well said. ', (n %% 20)::int + 1),
    timestamptz '2026-02-01 00:00+00' + n * interval '1 second',
    timestamptz '2026-02-01 00:00+00' + n * interval '1 second'
from generate_series(1, 10) as article, generate_series(1, 500) as n

-- step: follows
insert into follows (follower_id, followed_id)
select distinct pg_temp.user_id(follower), pg_temp.user_id(followed)
from (
    select follower, pg_temp.rank(%(users)s) as followed
    from generate_series(1, %(users)s::bigint) as follower, generate_series(1, 20)
) as drawn
where follower not between 11 and 20 and follower <> followed

-- step: readers who follow 200
insert into follows (follower_id, followed_id)
select pg_temp.user_id(reader), pg_temp.user_id(followed)
from generate_series(11, 20) as reader
cross join lateral (
    select followed from (
        select followed, 1 as part from generate_series(21, 60) as followed
        union all
        (select 61 + n * (%(users)s - 61) / 160 + reader %% 2, 2 from generate_series(0, 159) as n)
    ) as both_parts
) as followed_by_reader
on conflict do nothing

-- step: counts of tags
insert into tag_counts (tag, articles_count) select tag, count(*) from article_tags group by tag

-- step: counts of articles
insert into article_counts (article_id, favorites_count)
select article_id, count(*) from favorites group by article_id

-- step: counts of users
insert into user_counts (user_id, articles_count, favorites_count, articles_until)
select users.id, coalesce(written.count, 0), coalesce(liked.count, 0), coalesce(written.until, '-infinity')
from users
left join (
    select author_id, count(*), max(created_at) as until from articles group by author_id
) as written on written.author_id = users.id
left join (select user_id, count(*) from favorites group by user_id) as liked on liked.user_id = users.id

-- step: count of all
insert into article_totals (slot, articles_count) select 0, count(*) from articles

-- step: identity
select setval(pg_get_serial_sequence('articles', 'id'), max(id)) from articles
