drop function listed_articles(bigint[], uuid);
