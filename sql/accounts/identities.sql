-- name: list(user_id) -> rows
select id, issuer, subject, email, is_email_verified, created_at, last_used_at
from identities
where user_id = $1
order by created_at, id

-- name: insert(user_id, issuer, subject, email, is_email_verified, is_unproved) -> one
insert into identities (user_id, issuer, subject, email, is_email_verified, is_unproved)
values ($1, $2, $3, $4, $5, $6)
returning id, issuer, subject, email, is_email_verified, created_at, last_used_at

-- name: use(user_id, issuer, subject, email, is_email_verified) -> value
-- Record a use of an identity, with the email as the provider says now.
update identities
set last_used_at = now(), email = $4, is_email_verified = $5
where user_id = $1 and issuer = $2 and subject = $3
returning id

-- name: delete(id, user_id) -> value
-- Remember the issuer. Call sessions.lock_user in an earlier statement.
with deleted as (
    delete from identities
    where id = $1 and user_id = $2
    returning user_id, issuer
),
unlinked as (
    update users
    set unlinked_issuers = array_append(users.unlinked_issuers, deleted.issuer)
    from deleted
    where users.id = deleted.user_id
)
select issuer
from deleted

-- name: forget_unlinked(user_id, issuer) -> none
update users
set unlinked_issuers = array_remove(unlinked_issuers, $2)
where id = $1 and $2 = any (unlinked_issuers)

-- name: delete_unproved(user_id) -> none
delete from identities
where user_id = $1 and is_unproved

-- name: delete_all(user_id) -> none
delete from identities
where user_id = $1

-- name: end_proofs(user_id, except_session_id) -> none
-- The identity of a proof is not known, so the proofs of all identities end in the other sessions.
update sessions
set amr = array_remove(amr, 'fed'), auth_time = to_timestamp(0)
where user_id = $1 and id <> $2 and 'fed' = any (amr) and ended_at is null
