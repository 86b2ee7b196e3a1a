-- One row for each counter: an account at an IP address, an IP address, an account. The service
-- makes the key, a digest of one length. Accounts that do not exist have keys of the same form.
create table throttle (
    key bytea primary key,
    -- Failures, or admitted requests, since the start of the window.
    hits integer not null default 0,
    -- Attempts that were admitted and have no result yet.
    in_flight integer not null default 0,
    -- A process that is killed or loses the database never reports the results of its attempts.
    -- They would count until the end of the window. So `in_flight` counts only until this time,
    -- which the service extends with each attempt.
    in_flight_until timestamptz not null default '-infinity',
    -- A window ends at a fixed time after its first attempt. The time also identifies the window:
    -- the result of an attempt that was admitted in another window does not count in this one.
    ends_at timestamptz not null,
    constraint throttle_hits_in_flight_check check (hits >= 0 and in_flight >= 0)
)
-- Leave space on each page for the next version of a row. Counting then updates no index (HOT).
with (fillfactor = 50);

create index throttle_ends_at_idx on throttle (ends_at);


create function throttle_in_flight(counter throttle, moment timestamptz) returns integer
language sql immutable
as $$
    select case when counter.in_flight_until > moment then counter.in_flight else 0 end
$$;

-- Admit an attempt under all of its keys or under none: at most `max_counts[i]` failures and
-- attempts in flight for `keys[i]` in `seconds[i]` seconds. The attempt is in flight for at most
-- `lease` seconds. The service stops verifying its password before that.
--
-- This is a function because it runs several statements in one transaction. A statement sees the
-- rows that were committed when it began, so the statement that counts must begin after the locks
-- were acquired. Separate statements of the service would hold the locks for several round trips.
create function throttle_reserve(
    keys bytea[], max_counts integer[], seconds integer[], lease double precision
)
returns table (
    key bytea, ends_at timestamptz, admitted boolean, refused boolean, retry_after integer
)
language plpgsql
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
    has_capacity boolean;
begin
    -- Reject without a lock or a write when a limit is reached: a flood of attempts only reads.
    return query
    select
        throttle.key,
        throttle.ends_at,
        false,
        throttle.hits >= wanted.max_count,
        ceil(extract(epoch from throttle.ends_at - moment))::integer
    from throttle
    join unnest(keys, max_counts) as wanted (key, max_count) on wanted.key = throttle.key
    where throttle.ends_at > moment
        and throttle.hits + throttle_in_flight(throttle, moment) >= wanted.max_count;
    if found then
        return;
    end if;

    -- Insert the missing rows and lock the others, all in the order of their keys, so that two
    -- attempts cannot deadlock. `where false` locks a row without writing it.
    insert into throttle (key, ends_at)
    select wanted.key, '-infinity'
    from unnest(keys) as wanted (key)
    order by wanted.key
    on conflict (key) do update set in_flight = throttle.in_flight where false;

    moment := clock_timestamp();
    -- A new window starts with the first attempt after the previous one has ended or counts
    -- nothing.
    update throttle
    set hits = 0,
        in_flight = 0,
        ends_at = moment + make_interval(secs => wanted.seconds)
    from unnest(keys, seconds) as wanted (key, seconds)
    where throttle.key = wanted.key
        and (throttle.ends_at <= moment or throttle.hits + throttle.in_flight = 0);

    select
        coalesce(
            bool_and(throttle.hits + throttle_in_flight(throttle, moment) < wanted.max_count), true
        )
    into has_capacity
    from throttle
    join unnest(keys, max_counts) as wanted (key, max_count) on wanted.key = throttle.key;

    if has_capacity then
        update throttle
        set in_flight = throttle_in_flight(throttle, moment) + 1,
            in_flight_until = moment + make_interval(secs => lease)
        where throttle.key = any (keys);
    end if;

    return query
    select
        throttle.key,
        throttle.ends_at,
        has_capacity,
        throttle.hits >= wanted.max_count,
        ceil(extract(epoch from throttle.ends_at - moment))::integer
    from throttle
    join unnest(keys, max_counts) as wanted (key, max_count) on wanted.key = throttle.key
    where has_capacity
        or throttle.hits + throttle_in_flight(throttle, moment) >= wanted.max_count;
end
$$;
