drop function set_favorite(bigint, uuid, boolean);
