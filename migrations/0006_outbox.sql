-- Mails that are not sent yet. The transaction that causes a mail inserts its row. The row is
-- deleted when the mail server has accepted the mail.
create table outbox (
    -- Also the Message-ID, so that a mail that was sent twice is recognized as one.
    id uuid primary key default gen_random_uuid(),
    recipient text not null,
    subject text not null,
    body text not null,
    created_at timestamptz not null default now(),
    attempts integer not null default 0,
    -- The time of the next attempt. A process that claims a mail sets it to a time at which its own
    -- attempt must have ended.
    due_at timestamptz not null default now()
);

create index outbox_due_at_idx on outbox (due_at);
