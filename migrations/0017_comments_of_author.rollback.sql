-- For the cascade: find the comments of a deleted user.
create index comments_author_id_idx on comments (author_id);

drop index comments_author_id_id_idx;
