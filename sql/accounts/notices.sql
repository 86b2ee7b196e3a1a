-- name: is_known_login(user_id, ip_key, ip, user_agent) -> value
-- Return whether the user logged in with this device and from this IP address before. Numbers in a
-- user agent are ignored: an update of a browser is no other device. The IP address of the
-- registration is known too, even if it opened no session. Only the latest 500 events are searched.
select exists (
    select
    from (
        select kind, ip, user_agent
        from events
        where user_id = $1
        order by id desc
        limit 500
    ) as latest
    where kind in ('registered', 'signed_in')
        and regexp_replace(coalesce(user_agent, ''), '[0-9]+', '', 'g')
            = regexp_replace(coalesce($4::text, ''), '[0-9]+', '', 'g')
        and (
            (kind = 'registered' and ip = $3::text)
            or exists (select from known_ips where user_id = $1 and ip_key = $2)
        )
)
