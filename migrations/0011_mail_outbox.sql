-- A mail is stored as the values of its template. The process that sends the mail renders it.
alter table outbox
    add column template text,
    add column language text not null default 'en',
    -- The values of the template, which may contain a one-time token. They are removed once the
    -- mail is sent.
    add column values jsonb not null default '{}',
    add column state text not null default 'pending',
    -- The reason of the last failed attempt.
    add column error text,
    -- The time at which the mail was sent, rejected for good or given up.
    add column finished_at timestamptz;

-- Until now there was only one kind of mail. Keep the mails that wait.
update outbox
set template = 'lockout',
    values = jsonb_build_object(
        'time', coalesce(substring(body from 'one was on (.*? UTC)'), ''),
        'ip', coalesce(substring(body from 'IP address ([0-9a-f.:]*[0-9a-f:])'), ''),
        'minutes', coalesce(substring(body from 'For up to ([0-9]+) minutes'), '')
    );

alter table outbox
    alter column template set not null,
    alter column language drop default,
    alter column values drop default,
    drop column subject,
    drop column body,
    add constraint outbox_state_check check (state in ('pending', 'sent', 'refused')),
    add constraint outbox_finished_at_check check ((finished_at is null) = (state = 'pending'));

drop index outbox_due_at_idx;
create index outbox_due_at_idx on outbox (due_at) where state = 'pending';
create index outbox_finished_at_idx on outbox (finished_at) where state <> 'pending';
