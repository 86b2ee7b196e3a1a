drop function unix_microseconds(timestamptz);
