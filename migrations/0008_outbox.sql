-- Mails that are still to be sent. Written in the transaction that causes them; a row goes once the
-- mail server has taken its mail.
create table outbox (
    -- Also names the mail in its Message-ID, so that one sent twice is known as one.
    id uuid primary key default gen_random_uuid(),
    recipient text not null,
    subject text not null,
    body text not null,
    created_at timestamptz not null default now(),
    attempts integer not null default 0,
    -- When it is tried next. Who takes a mail in hand sets that to a time after he must have ended.
    due_at timestamptz not null default now()
);

create index outbox_due_at_idx on outbox (due_at);
