drop table known_ips;
