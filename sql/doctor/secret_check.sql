-- name: count_totp_secrets() -> rows
-- The first four bytes of a secret are the id of its key.
select substring(secret from 1 for 4) as key_id, count(*) as count
from totp_secrets
group by substring(secret from 1 for 4)
