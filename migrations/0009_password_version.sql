-- Counts the changes of a password: who verified an older one opens no session and deletes nothing.
-- A hash that is renewed at another cost is no change.
alter table users add column password_version integer not null default 0;
