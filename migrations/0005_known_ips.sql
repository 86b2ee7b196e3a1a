-- The IP addresses from which a user logged in. There the limits of the whole account do not apply,
-- so that an attacker cannot lock the owner out.
create table known_ips (
    user_id uuid not null references users on delete cascade,
    ip_key text not null,
    last_seen timestamptz not null default now(),
    primary key (user_id, ip_key)
);

create index known_ips_last_seen_idx on known_ips (last_seen);
