-- name: insert(usernames, username_keys, emails, email_keys, password_hashes, verified, bios,
--     images, created) -> value
-- Insert many accounts, and return the number of those that are new. An account whose username or
-- email exists is skipped.
with inserted as (
    insert into users (
        username, username_key, email, email_key, password_hash, email_verified_at, ever_verified,
        bio, image, created_at
    )
    select
        username, username_key, email, email_key, password_hash,
        case when is_verified then now() end, is_verified, bio, image, coalesce(created_at, now())
    from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[],
        $8::text[], $9::timestamptz[]
    ) as given (
        username, username_key, email, email_key, password_hash, is_verified, bio, image, created_at
    )
    on conflict do nothing
    returning id
)
select count(*)
from inserted
