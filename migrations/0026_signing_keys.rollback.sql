drop table signing_keys;
drop function notify_signing_keys();
