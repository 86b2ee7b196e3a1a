-- name: find_methods(user_id, issuers) -> row
-- What the user can prove themselves with. `issuers` are those that can verify a person again.
select
    password_hash is not null as has_password,
    exists (select from passkeys where passkeys.user_id = users.id) as has_passkey,
    exists (
        select
        from identities
        where identities.user_id = users.id and identities.issuer = any ($2::text[])
    ) as has_identity
from users
where id = $1 and closed_at is null

-- name: replace_session(id, user_id, amr, digest, refresh_token_ttl, ip, user_agent) -> row
-- End the session and open another one in its place, with a new proof. Each access token and each
-- refresh token that was issued before is revoked. The new session keeps the time of the login and
-- the absolute expiry. Call sessions.lock_user in an earlier statement of the transaction.
with ended as (
    update sessions
    set ended_at = now(), end_reason = 'reauthenticated'
    where id = $1
        and user_id = $2
        and ended_at is null
        and least(expires_at, idle_expires_at) > now()
    returning user_id, created_at, expires_at
),
session as (
    insert into sessions (
        user_id, created_at, expires_at, idle_expires_at, ip, user_agent, auth_time, amr
    )
    select
        user_id, created_at, expires_at, least(now() + make_interval(secs => $5), expires_at),
        $6, $7, now(), $3
    from ended
    returning id, user_id, idle_expires_at
),
token as (
    insert into refresh_tokens (digest, session_id, generation)
    select $4::bytea, id, 0
    from session
),
event as (
    insert into events (user_id, kind, ip, user_agent, session_id, amr)
    select user_id, 'reauthenticated', $6, $7, id, $3
    from session
)
select id, idle_expires_at as expires_at
from session
