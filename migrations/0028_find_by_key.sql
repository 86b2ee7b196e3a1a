-- Return whether a user logged in with this device and from this IP address before. Numbers in a
-- user agent are ignored: an update of a browser is no other device. The IP address of the
-- registration is known too, even if it opened no session. Only the latest 500 events are searched.
-- The condition on two columns makes PostgreSQL read them in the order of the index and end at the
-- first match. With a condition on `user_id` alone it would read and sort every event of the user.
--
-- This is a function because of its settings. While the table is small, PostgreSQL would rather
-- read and sort all of it. It keeps that plan while the table grows, until the table is analyzed.
-- It is stable so that it sees only the rows from before the statement that calls it.
create function is_known_login(owner_id uuid, client_ip text, device text, client_ip_key text)
returns boolean
language plpgsql
stable
set enable_seqscan = off
set enable_sort = off
as $$
begin
    return exists (
        select
        from (
            select user_id, kind, ip, user_agent
            from events
            where (user_id, id) <= (owner_id, 9223372036854775807)
            order by user_id desc, id desc
            limit 500
        ) as latest
        where user_id = owner_id
            and kind in ('registered', 'signed_in')
            and regexp_replace(coalesce(user_agent, ''), '[0-9]+', '', 'g')
                = regexp_replace(coalesce(device, ''), '[0-9]+', '', 'g')
            and (
                (kind = 'registered' and ip = client_ip)
                or exists (
                    select from known_ips where user_id = owner_id and ip_key = client_ip_key
                )
            )
    );
end
$$;

-- Find the rows of an attempt by their keys, however large the index of `ends_at` is.
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
        -- With a plain comparison PostgreSQL might read every running window in the index of
        -- `ends_at`, instead of the wanted rows.
        where (throttle.ends_at > moment) is true
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
