-- One row for each thing that is counted: an account at an address, an address, an account. The key
-- is a digest that the service makes, of one width, the same for accounts that do not exist.
create table throttle (
    key bytea primary key,
    -- Failures, or admitted requests, since the window began.
    counted integer not null default 0,
    -- Attempts that were let in and whose outcome is not known yet.
    pending integer not null default 0,
    -- A window ends at a fixed time after its first attempt. It also names the window: what was let
    -- in during another one is not settled in this one.
    ends_at timestamptz not null,
    constraint throttle_counts_check check (counted >= 0 and pending >= 0)
)
-- Room on each page for the next version of a row: counting touches no index.
with (fillfactor = 50);

create index throttle_ends_at_idx on throttle (ends_at);

-- Where a user signed in from, so that a lock of the whole account does not shut the owner out.
create table known_addresses (
    user_id uuid not null references users (id) on delete cascade,
    address_key text not null,
    last_seen timestamptz not null default now(),
    primary key (user_id, address_key)
);

create index known_addresses_last_seen_idx on known_addresses (last_seen);

-- Lets an attempt in under all of its keys, or under none: at most `most[i]` failures and attempts
-- under way for `keys[i]` in `seconds[i]` seconds.
--
-- A function, since it takes two statements in one transaction: each sees what was committed when
-- it began, so the one that counts must begin after the locks were taken. Sent one by one they
-- would hold the locks over several round trips.
create function throttle_reserve(keys bytea[], most integer[], seconds integer[])
returns table (key bytea, ends_at timestamptz, admitted boolean, refused boolean, retry_after integer)
language plpgsql
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
    free boolean;
begin
    -- What is full is refused without a lock or a write: a storm of refusals costs reads.
    return query
    select
        throttle.key,
        throttle.ends_at,
        false,
        throttle.counted >= wanted.most,
        ceil(extract(epoch from throttle.ends_at - moment))::integer
    from throttle
    join unnest(keys, most) as wanted (key, most) on wanted.key = throttle.key
    where throttle.ends_at > moment and throttle.counted + throttle.pending >= wanted.most;
    if found then
        return;
    end if;

    -- Makes the rows that are missing and locks the others, all in the order of their keys, so
    -- that no two attempts wait for each other. `where false` locks a row without writing it.
    insert into throttle (key, ends_at)
    select wanted.key, '-infinity'
    from unnest(keys) as wanted (key)
    order by wanted.key
    on conflict (key) do update set pending = throttle.pending where false;

    moment := clock_timestamp();
    -- A window begins with the first attempt after the last one is over or holds nothing.
    update throttle
    set counted = 0,
        pending = 0,
        ends_at = moment + make_interval(secs => wanted.seconds)
    from unnest(keys, seconds) as wanted (key, seconds)
    where throttle.key = wanted.key
        and (throttle.ends_at <= moment or throttle.counted + throttle.pending = 0);

    select coalesce(bool_and(throttle.counted + throttle.pending < wanted.most), true)
    into free
    from throttle
    join unnest(keys, most) as wanted (key, most) on wanted.key = throttle.key;

    if free then
        update throttle set pending = pending + 1 where throttle.key = any (keys);
    end if;

    return query
    select
        throttle.key,
        throttle.ends_at,
        free,
        throttle.counted >= wanted.most,
        ceil(extract(epoch from throttle.ends_at - moment))::integer
    from throttle
    join unnest(keys, most) as wanted (key, most) on wanted.key = throttle.key
    where free or throttle.counted + throttle.pending >= wanted.most;
end
$$;
