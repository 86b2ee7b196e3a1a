-- The IP addresses from which a user logged in. There the limits of the whole account do not apply,
-- so that an attacker cannot lock the owner out.
create table known_addresses (
    user_id uuid not null references users on delete cascade,
    address_key text not null,
    last_seen timestamptz not null default now(),
    primary key (user_id, address_key)
);

create index known_addresses_last_seen_idx on known_addresses (last_seen);
