drop table comments;
drop table favorites;
drop table article_slugs;
drop table articles;
drop table follows;
drop function favorites_prepare();
drop function articles_fix_identity();
drop function follows_prepare();
