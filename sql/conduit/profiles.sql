-- name: find(username_key, viewer_id) -> row
select
    users.username, users.bio, users.image,
    exists (
        select
        from follows
        where follows.follower_id = $2 and follows.followed_id = users.id
    ) as following
from users
where users.username_key = $1

-- name: follow(viewer_id, username_key) -> row
-- Return the profile after the change, or no row if no user has that name. A repeated call has no
-- effect.
with target as materialized (
    select id, username, bio, image
    from users
    where username_key = $2
),
added as (
    insert into follows (follower_id, followed_id)
    select $1, target.id
    from target
    on conflict (follower_id, followed_id) do nothing
)
select target.username, target.bio, target.image, true as following
from target

-- name: unfollow(viewer_id, username_key) -> row
with target as materialized (
    select id, username, bio, image
    from users
    where username_key = $2
),
removed as (
    delete from follows
    using target
    where follows.follower_id = $1 and follows.followed_id = target.id
)
select target.username, target.bio, target.image, false as following
from target
