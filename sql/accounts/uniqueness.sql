-- name: taken(username_key, email_key, except_id) -> one
-- Check before the cost of a hash, and report both fields. The unique constraints decide.
select
    exists (select from users where username_key = $1 and id is distinct from $3) as username,
    exists (select from users where email_key = $2 and id is distinct from $3) as email
