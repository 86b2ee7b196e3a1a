-- Open sessions, ten for each user. The column user_agent holds the plain refresh token, so that the
-- bench can use it.
set session_replication_role = replica;
insert into users (id, username, username_key, email, email_key, password_hash)
select md5('user ' || n)::uuid, 'user' || n, 'user' || n,
    'user' || n || '@example.com', 'user' || n || '@example.com', %(password_hash)s::text
from generate_series(1, %(count)s::bigint / 10) as n;
insert into sessions (id, user_id, expires_at, idle_expires_at, user_agent)
select md5('session ' || n)::uuid, md5('user ' || (1 + n / 10))::uuid,
    now() + interval '30 days', now() + interval '7 days',
    md5('order ' || n) || '-token-' || n
from generate_series(1, %(count)s::bigint - 10) as n;
insert into refresh_tokens (digest, session_id, generation)
select sha256(user_agent::bytea), id, 0
from sessions;
vacuum (analyze)
