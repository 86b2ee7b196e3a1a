-- The service says for how many seconds an attempt counts as under way: it stops verifying a password in time for that.
drop function throttle_reserve(bytea[], integer[], integer[]);

create function throttle_reserve(keys bytea[], most integer[], seconds integer[], lease double precision)
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
    where throttle.ends_at > moment and throttle.counted + throttle_pending(throttle, moment) >= wanted.most;
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

    select coalesce(bool_and(throttle.counted + throttle_pending(throttle, moment) < wanted.most), true)
    into free
    from throttle
    join unnest(keys, most) as wanted (key, most) on wanted.key = throttle.key;

    if free then
        update throttle
        set pending = throttle_pending(throttle, moment) + 1,
            pending_until = moment + make_interval(secs => lease)
        where throttle.key = any (keys);
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
    where free or throttle.counted + throttle_pending(throttle, moment) >= wanted.most;
end
$$;

-- Domains were folded as usernames are, which made one of `straße.de` and `strasse.de`. The emails hold their domains as IDNA
-- has them, and that is what a key ends in now. The old keys were unique, so these are.
update users
set email_key = regexp_replace(email_key, '[^@]*$', '') || substring(email from '[^@]*$')
where substring(email_key from '[^@]*$') <> substring(email from '[^@]*$');
