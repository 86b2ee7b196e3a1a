-- The comments of one author in their order, for the export of an account, and for the cascade.
create index comments_author_id_id_idx on comments (author_id, id);

drop index comments_author_id_idx;
