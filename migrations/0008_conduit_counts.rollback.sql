drop trigger users_prepare_deletion on users;
drop trigger favorites_count_truncated on favorites;
drop trigger favorites_count_deleted on favorites;
drop trigger favorites_count_inserted on favorites;
drop trigger articles_count_truncated on articles;
drop trigger articles_count_deleted on articles;
drop trigger articles_count_tag_list on articles;
drop trigger articles_count_inserted on articles;

drop function users_prepare_deletion();
drop function favorites_count_truncated();
drop function favorites_count_deleted();
drop function favorites_count_inserted();
drop function articles_count_truncated();
drop function articles_count_deleted();
drop function articles_count_tag_list();
drop function articles_count_inserted();

drop table article_totals;
drop table user_counts;
drop table article_counts;
drop table tag_counts;
drop table article_tags;
