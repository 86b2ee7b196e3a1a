drop table consecutive_failures;
