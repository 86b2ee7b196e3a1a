drop function throttle_reserve(bytea[], integer[], integer[], double precision);
drop function throttle_in_flight(throttle, timestamptz);
drop table throttle;
