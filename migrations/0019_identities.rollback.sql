drop table identities;
alter table users
    drop column unlinked_issuers;
