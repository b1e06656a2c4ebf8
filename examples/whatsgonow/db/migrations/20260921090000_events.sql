-- What the event streams carry. Each person has a sequence of their own, raised under
-- the lock of their row: numbers become visible in order and without gaps, which a
-- database-wide sequence cannot promise.

alter table people add column last_event bigint not null default 0;

create table events (
    person    uuid not null references people on delete cascade,
    seq       bigint not null,
    at        timestamptz not null default now(),
    transport uuid not null,
    offer     uuid,
    verb      text not null,
    status    text not null,
    primary key (person, seq)
);
create index on events (at);
