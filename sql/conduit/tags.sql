-- name: most_used(limit) -> rows
-- The magnitude is the count in steps of a tenth; only the magnitude is indexed. `with ties` adds
-- the other tags of the last magnitude. The exact counts then order these few candidates.
select tag
from (
    select tag, articles_count
    from tag_counts
    where magnitude >= 0
    order by magnitude desc
    fetch first ($1::bigint) rows with ties
) as candidates
order by articles_count desc, tag
limit $1::bigint
