drop index events_actor_idx;
alter table events
    drop column actor;
drop table api_keys;
