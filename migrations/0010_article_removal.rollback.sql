drop function remove_articles(bigint[]);
