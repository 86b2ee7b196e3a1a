-- Return `moment` in microseconds since 1970. A process reads and formats an integer in a quarter
-- of the time that a `timestamptz` takes, and a list has two times for each article.
--
-- The double is exact to a quarter of a microsecond until the year 2106, and the cast rounds it.
create function unix_microseconds(moment timestamptz) returns bigint
language sql stable parallel safe as $$
    select (date_part('epoch', moment) * 1000000)::bigint
$$;
