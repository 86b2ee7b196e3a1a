create or replace function throttle_reserve(
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
