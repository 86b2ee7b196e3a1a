drop function is_known_login(uuid, text, text, text);

create or replace function throttle_reserve(
    keys bytea[], max_counts integer[], seconds integer[], lease double precision
)
returns table (
    key bytea, ends_at timestamptz, admitted boolean, refused boolean, retry_after integer
)
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
begin
    loop
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
        exit when found;

        -- Insert the missing rows and lock the others, all in the order of their keys, so that two
        -- attempts cannot deadlock. `where false` locks a row without writing it.
        insert into throttle (key, ends_at)
        select wanted.key, '-infinity'
        from unnest(keys) as wanted (key)
        order by wanted.key
        on conflict (key) do update set in_flight = throttle.in_flight where false;

        moment := clock_timestamp();
        -- A new window starts with the first attempt after the previous one has ended or counts
        -- nothing. If another attempt has taken the last place meanwhile, count nothing, and return
        -- the limits that are reached.
        return query
        with counter as materialized (
            select
                throttle.key,
                wanted.seconds,
                is_new,
                case when is_new then 0 else throttle.hits end as hits,
                case when is_new then 0 else throttle_in_flight(throttle, moment) end as in_flight,
                wanted.max_count
            from throttle
            join unnest(keys, max_counts, seconds) as wanted (key, max_count, seconds)
                on wanted.key = throttle.key
            cross join lateral (
                select
                    throttle.ends_at <= moment or throttle.hits + throttle.in_flight = 0 as is_new
            ) as current_window
        )
        update throttle
        set hits = counter.hits,
            in_flight = counter.in_flight + 1,
            in_flight_until = moment + make_interval(secs => lease),
            ends_at = case
                when counter.is_new then moment + make_interval(secs => counter.seconds)
                else throttle.ends_at
            end
        from counter
        where throttle.key = counter.key
            and not exists (select from counter where hits + in_flight >= max_count)
        returning
            throttle.key,
            throttle.ends_at,
            true,
            throttle.hits >= counter.max_count,
            ceil(extract(epoch from throttle.ends_at - moment))::integer;
        exit when found or keys is null;
    end loop;
end
$$;
