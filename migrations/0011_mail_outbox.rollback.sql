-- The former version deletes a mail that was sent or rejected, and it cannot render a template.
delete from outbox;

drop index outbox_finished_at_idx;
drop index outbox_due_at_idx;

alter table outbox
    drop constraint outbox_finished_at_check,
    drop constraint outbox_state_check,
    drop column finished_at,
    drop column error,
    drop column state,
    drop column values,
    drop column language,
    drop column template,
    add column subject text not null,
    add column body text not null;

create index outbox_due_at_idx on outbox (due_at);
