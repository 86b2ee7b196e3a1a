-- name: has_one(user_id, issuers) -> value
-- Return whether the user can sign in: with a password, a passkey, or an identity at an issuer that
-- is set up.
select
    password_hash is not null
    or exists (select from passkeys where passkeys.user_id = users.id)
    or exists (
        select
        from identities
        where identities.user_id = users.id and identities.issuer = any ($2::text[])
    )
from users
where id = $1
