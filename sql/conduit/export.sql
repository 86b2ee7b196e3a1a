-- Each list is read page by page, in the order of an index: `after` is the key of the last row of
-- the page before.

-- name: find_account(user_id) -> row
select
    users.id, users.username, users.email, users.email_verified_at, users.bio, users.image,
    users.created_at, users.updated_at, users.two_factor_since,
    users.roles,
    users.password_hash is not null as has_password,
    (select count(*) from recovery_codes where user_id = users.id) as recovery_codes_left,
    coalesce(
        (select failures from consecutive_failures where user_id = users.id), 0
    ) as failed_logins_in_a_row
from users
where users.id = $1 and users.closed_at is null

-- name: list_sessions(user_id, after) -> rows
select
    id, created_at, last_used_at, expires_at, auth_time, amr, ip, user_agent, ended_at, end_reason
from sessions
where user_id = $1 and id > $2
order by id
limit 1000

-- name: list_events(user_id, after) -> rows
-- The IP address of an administrator is not the person's.
select
    id, kind, created_at, session_id, amr,
    actor is not null as by_administrator,
    case when actor is null then ip end as ip,
    case when actor is null then user_agent end as user_agent
from events
where user_id = $1 and id > $2
order by id
limit 1000

-- name: list_known_ips(user_id, after) -> rows
select ip_key, last_seen
from known_ips
where user_id = $1 and ip_key > $2
order by ip_key
limit 1000

-- name: list_links(user_id, after) -> rows
-- The mailed links and open challenges that are still valid, without their tokens.
select purpose, email, created_at, expires_at, digest
from one_time_tokens
where user_id = $1 and digest > $2 and used_at is null and expires_at > now()
order by digest
limit 1000

-- name: list_passkeys(user_id, after) -> rows
select id, name, created_at, last_used_at, transports
from passkeys
where user_id = $1 and id > $2
order by id
limit 1000

-- name: list_identities(user_id, after) -> rows
select id, issuer, subject, email, is_email_verified, created_at, last_used_at
from identities
where user_id = $1 and id > $2
order by id
limit 1000

-- name: list_following(user_id, after) -> rows
select users.username, follows.created_at, follows.followed_id
from follows
join users on users.id = follows.followed_id and users.closed_at is null
where follows.follower_id = $1 and follows.followed_id > $2
order by follows.followed_id
limit 1000

-- name: list_articles(user_id, after_time, after_id) -> rows
-- At most 100 articles, and no more than about a megabyte of bodies, but always one. `octet_length`
-- does not read the body.
with page as (
    select
        id, created_at,
        sum(octet_length(body)) over (order by created_at, id) - octet_length(body) as bytes_before
    from articles
    where author_id = $1 and (created_at, id) > ($2, $3)
    order by created_at, id
    limit 100
)
select
    articles.id, articles.slug, articles.title, articles.description, articles.body,
    articles.tag_list, articles.created_at, articles.updated_at
from page
join articles on articles.id = page.id
where page.bytes_before < 1000000
order by page.created_at, page.id

-- name: list_comments(user_id, after) -> rows
select
    comments.id, articles.slug as article, comments.body, comments.created_at, comments.updated_at
from comments
join articles on articles.id = comments.article_id
where comments.author_id = $1 and comments.id > $2
order by comments.id
limit 50

-- name: list_favorites(user_id, after_time, after_id) -> rows
select articles.slug as article, favorites.article_created_at, favorites.article_id
from favorites
join articles on articles.id = favorites.article_id
where favorites.user_id = $1 and (favorites.article_created_at, favorites.article_id) > ($2, $3)
order by favorites.article_created_at, favorites.article_id
limit 1000
