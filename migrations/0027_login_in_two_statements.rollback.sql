drop function record_login_success(
    bytea[], timestamptz[], bytea, uuid, text, integer, integer
);

drop function find_user_now(uuid);
