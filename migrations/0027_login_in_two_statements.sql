-- Return the row of a user as it is now, and not as it was when the calling statement began.
create function find_user_now(user_id uuid) returns setof users
language plpgsql
as $$
begin
    return query select users.* from users where users.id = user_id and users.closed_at is null;
end
$$;

-- Release an attempt whose password was right, and reset the failures of this account at this IP
-- address and those in a row. Other attempts in flight there still count. Return whether the
-- success counts: if other attempts have locked the login meanwhile, change nothing and return
-- false.
--
-- This is a function because the statement that opens a session calls it too. It finds the counters
-- in the index, as `throttle_reserve` does.
create function record_login_success(
    keys bytea[], windows timestamptz[], pair_key bytea, account_id uuid, ip_key text,
    known_ttl integer, max_failures integer
)
returns boolean
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    streak integer;
begin
    select failures
    into streak
    from consecutive_failures
    where user_id = account_id
    for update;
    if found then
        if streak >= max_failures and not exists (
            select
            from known_ips
            where user_id = account_id
                and known_ips.ip_key = record_login_success.ip_key
                and last_seen > now() - make_interval(secs => known_ttl)
        ) then
            return false;
        end if;
        delete from consecutive_failures where user_id = account_id;
    end if;
    with held as materialized (
        select throttle.key
        from throttle
        join unnest(keys, windows) as reserved (key, ends_at)
            on reserved.key = throttle.key and reserved.ends_at = throttle.ends_at
        order by throttle.key
        for update of throttle
    )
    update throttle
    set in_flight = greatest(throttle.in_flight - 1, 0),
        hits = case when throttle.key = pair_key then 0 else throttle.hits end
    from held
    where throttle.key = held.key;
    return true;
end
$$;
