-- name: count_encrypted_secrets() -> rows
-- The first four bytes of a secret are the id of its key.
select key_id, count(*) as count
from (
    select substring(secret from 1 for 4) as key_id
    from totp_secrets
    union all
    select substring(private_key from 1 for 4)
    from signing_keys
) as secrets
group by key_id

-- name: find_signing_key() -> row
-- Return the key that signs access tokens now, with its age in days.
select algorithm, extract(epoch from now() - created_at)::float8 / 86400 as days
from signing_keys
where signs_at <= now()
order by signs_at desc, id
limit 1
