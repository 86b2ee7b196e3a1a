drop function throttle_reserve(bytea[], integer[], integer[], double precision);
drop function throttle_pending(throttle, timestamptz);
drop table throttle;
