-- Every deletion takes at most `limit` rows and skips rows that other transactions have locked. It
-- returns the number of rows that it deleted (delete_articles: found). 0 means that nothing is left
-- to delete now.

-- name: lock(user_id) -> value
-- Return the version of the user's password, or null if the account is closed. Wait for every
-- transaction that adds something to the account: such a transaction locks the user's row too.
select password_version
from users
where id = $1 and closed_at is null
for update

-- name: close(user_id) -> none
update users
set closed_at = now(),
    username = null,
    username_key = null,
    email = null,
    email_key = null,
    password_hash = null,
    bio = null,
    image = null,
    email_verified_at = null,
    two_factor_since = null,
    locked_at = null,
    roles = '{}'
where id = $1

-- name: find_next(after) -> value
select id
from users
where closed_at is not null and id > $1
order by id
limit 1

-- name: delete_refresh_tokens(user_id, limit) -> value
-- Run this before delete_sessions: a session can have any number of refresh tokens.
with chosen as (
    select refresh_tokens.digest
    from sessions
    join refresh_tokens on refresh_tokens.session_id = sessions.id
    where sessions.user_id = $1
    limit $2
    for update of refresh_tokens skip locked
),
deleted as (
    delete from refresh_tokens
    using chosen
    where refresh_tokens.digest = chosen.digest
    returning refresh_tokens.digest
)
select count(*)
from deleted

-- name: delete_sessions(user_id, limit) -> value
with chosen as (
    select id
    from sessions
    where user_id = $1
        and not exists (select from refresh_tokens where refresh_tokens.session_id = sessions.id)
    limit $2
    for update skip locked
),
deleted as (
    delete from sessions
    using chosen
    where sessions.id = chosen.id
    returning sessions.id
)
select count(*)
from deleted

-- name: delete_followed(user_id, limit) -> value
with chosen as (
    select followed_id
    from follows
    where follower_id = $1
    limit $2
    for update skip locked
),
deleted as (
    delete from follows
    using chosen
    where follows.follower_id = $1 and follows.followed_id = chosen.followed_id
    returning follows.followed_id
)
select count(*)
from deleted

-- name: delete_followers(user_id, limit) -> value
with chosen as (
    select follower_id
    from follows
    where followed_id = $1
    limit $2
    for update skip locked
),
deleted as (
    delete from follows
    using chosen
    where follows.followed_id = $1 and follows.follower_id = chosen.follower_id
    returning follows.follower_id
)
select count(*)
from deleted

-- name: delete_favorites(user_id, limit) -> value
with chosen as (
    select article_id
    from favorites
    where user_id = $1
    limit $2
    for update skip locked
),
deleted as (
    delete from favorites
    using chosen
    where favorites.user_id = $1 and favorites.article_id = chosen.article_id
    returning favorites.article_id
)
select count(*)
from deleted

-- name: delete_comments(user_id, limit) -> value
-- Limit a batch to 4 MiB of comments too, in their stored size.
with found as (
    select id, pg_column_size(body) as bytes
    from comments
    where author_id = $1
    limit $2
    for update skip locked
),
chosen as (
    select id
    from (
        select id, sum(bytes) over (rows unbounded preceding) - bytes as before
        from found
    ) as sized
    where before < 4194304
),
deleted as (
    delete from comments
    using chosen
    where comments.id = chosen.id
    returning comments.id
)
select count(*)
from deleted

-- name: delete_articles(user_id, limit) -> value
-- Limit a batch to 4 MiB of articles too, in their stored size. Delete the comments and favorites
-- of other users on them too. If there are many, delete only some of these and keep the articles
-- (see the function remove_articles).
with found as (
    select id, pg_column_size(body) as bytes
    from articles
    where author_id = $1
    order by created_at, id
    limit $2
),
chosen as materialized (
    select array(
        select id
        from (
            select id, sum(bytes) over (order by id) - bytes as before
            from found
        ) as sized
        where before < 4194304
    ) as article_ids
)
select case when remove_articles(article_ids) is null then 0 else cardinality(article_ids) end
from chosen

-- name: delete_known_ips(user_id, limit) -> value
with chosen as (
    select ip_key
    from known_ips
    where user_id = $1
    limit $2
    for update skip locked
),
deleted as (
    delete from known_ips
    using chosen
    where known_ips.user_id = $1 and known_ips.ip_key = chosen.ip_key
    returning known_ips.ip_key
)
select count(*)
from deleted

-- name: delete_one_time_tokens(user_id, limit) -> value
with chosen as (
    select digest
    from one_time_tokens
    where user_id = $1
    limit $2
    for update skip locked
),
deleted as (
    delete from one_time_tokens
    using chosen
    where one_time_tokens.digest = chosen.digest
    returning one_time_tokens.digest
)
select count(*)
from deleted

-- name: delete_two_factor(user_id) -> none
-- Delete the secrets of authenticator apps and the recovery codes: a few rows.
with secrets as (
    delete from totp_secrets
    where user_id = $1
)
delete from recovery_codes
where user_id = $1

-- name: delete_user(user_id) -> value
-- Delete the row and return true if nothing refers to it any more, so that no cascade has rows to
-- delete.
with deleted as (
    delete from users
    where id = $1
        and closed_at is not null
        and not exists (select from articles where articles.author_id = users.id)
        and not exists (select from comments where comments.author_id = users.id)
        and not exists (select from favorites where favorites.user_id = users.id)
        and not exists (select from follows where follows.follower_id = users.id)
        and not exists (select from follows where follows.followed_id = users.id)
        and not exists (select from sessions where sessions.user_id = users.id)
    returning id
)
select exists (select from deleted)
