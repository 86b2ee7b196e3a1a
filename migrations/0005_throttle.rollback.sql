drop function throttle_reserve;
drop table known_addresses;
drop table throttle;
