-- name: most_used(limit) -> rows
-- Magnitude is the count in steps of a tenth, and all that is indexed of it. "With ties" adds the other tags of the last
-- magnitude taken; among these few the true counts decide.
select tag
from (
    select tag, articles_count
    from tag_counts
    where magnitude >= 0
    order by magnitude desc
    fetch first ($1::bigint) rows with ties
) as candidates
order by articles_count desc, tag
limit $1::bigint;
