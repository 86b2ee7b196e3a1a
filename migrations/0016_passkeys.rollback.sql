drop index one_time_tokens_anonymous_idx;
drop table passkeys;
