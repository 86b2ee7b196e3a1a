-- name: insert(digest, purpose, user_id, email, email_key, ttl, max_count, data) -> none
-- Keep at most `max_count` valid tokens of the purpose for each user: delete the oldest. Reports
-- are counted for each email of the user: a thief who changes the email again and again must not
-- delete the report that the owner has. Call sessions.lock_user in an earlier statement, so that
-- simultaneous calls see each other's tokens. `created_at` is the current time and not the start
-- of the transaction, so that it follows the order in which transactions lock the user.
-- Without such a user nothing is inserted, but the statement runs, so that timing does not reveal
-- whether the account exists.
with surplus as (
    select digest
    from one_time_tokens
    where user_id = $3
        and purpose = $2
        and used_at is null
        and expires_at > now()
        and ($2 <> 'report' or email_key = $5)
    order by created_at desc, digest
    offset $7::integer - 1
),
deleted as (
    delete from one_time_tokens
    using surplus
    where one_time_tokens.digest = surplus.digest
)
insert into one_time_tokens (
    digest, purpose, user_id, email, email_key, created_at, expires_at, data
)
select
    $1::bytea, $2::text, id, $4::text, $5::text, clock_timestamp(),
    now() + make_interval(secs => $6::integer), $8::jsonb
from users
where id = $3

-- name: find(digest, purpose) -> row
select user_id, email, data, expires_at <= now() as is_expired
from one_time_tokens
where digest = $1 and purpose = $2 and used_at is null

-- name: consume(digest, purpose) -> row
update one_time_tokens
set used_at = now()
where digest = $1 and purpose = $2 and used_at is null and expires_at > now()
returning user_id, email, email_key, data

-- name: revoke(user_id, purposes) -> none
delete from one_time_tokens
where user_id = $1 and purpose = any ($2::text[]) and used_at is null

-- name: delete_expired(max_age, limit) -> value
-- Delete at most `limit` tokens that expired more than `max_age` seconds ago, and return their
-- number. Locked rows are left for later.
with expired as (
    select digest
    from one_time_tokens
    where expires_at <= now() - make_interval(secs => $1::integer)
    order by expires_at
    limit $2
    for update skip locked
),
deleted as (
    delete from one_time_tokens
    using expired
    where one_time_tokens.digest = expired.digest
    returning one_time_tokens.digest
)
select count(*)
from deleted

-- name: delete_expired_anonymous(max_age, limit) -> value
-- Delete at most `limit` tokens without a user that expired more than `max_age` seconds ago, and
-- return their number. Such a token is a challenge of a login, or a step of a sign-in through a
-- provider. Locked rows are left for later.
with expired as (
    select digest
    from one_time_tokens
    where user_id is null and expires_at <= now() - make_interval(secs => $1::integer)
    limit $2
    for update skip locked
),
deleted as (
    delete from one_time_tokens
    using expired
    where one_time_tokens.digest = expired.digest
    returning one_time_tokens.digest
)
select count(*)
from deleted
