drop table comments;
drop table favorites;
drop table article_slugs;
drop table articles;
drop table follows;
