-- The keys that sign access tokens with ES256 or EdDSA. The newest one whose time has come signs,
-- and all of them verify. The service deletes a key when every token that it signed has expired.
create table signing_keys (
    -- The `kid` in the header of a token.
    id uuid primary key,
    -- A key is only ever used with one algorithm.
    algorithm text not null,
    -- SubjectPublicKeyInfo in DER (RFC 5280).
    public_key bytea not null,
    -- PKCS #8 in DER, encrypted with a key of ENCRYPTION_KEYS. The first four bytes are the id of
    -- that key.
    private_key bytea not null,
    created_at timestamptz not null default now(),
    -- Other services must know the public key before it signs.
    signs_at timestamptz not null,
    constraint signing_keys_algorithm_check check (algorithm in ('ES256', 'EdDSA'))
);

-- Every process reads the keys again at once.
create function notify_signing_keys() returns trigger language plpgsql as $$
begin
    perform pg_notify('accounts', 'keys:');
    return null;
end
$$;

create trigger signing_keys_changed_notify
after insert or delete on signing_keys
for each row
execute function notify_signing_keys();

create trigger signing_keys_truncated_notify
after truncate on signing_keys
for each statement
execute function notify_signing_keys();
