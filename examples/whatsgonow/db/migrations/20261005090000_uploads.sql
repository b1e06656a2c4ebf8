-- Photos. The bytes lie in UPLOADS_DIR under the same id. A photo without a transport
-- belongs to a guest or to a form that was never sent, and goes after 48 hours.

create table uploads (
    id         text primary key,
    transport  uuid unique references transports on delete cascade,
    bytes      bigint not null,
    created_at timestamptz not null default now()
);
create index on uploads (created_at) where transport is null;
