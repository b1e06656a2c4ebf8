-- People, what they want brought, and what drivers ask for it.
-- States are text without a check: the table of moves in internal/market says which
-- there are, and a new one must not need a constraint replaced under a running release.

create table people (
    id           uuid primary key default gen_random_uuid(),
    email        text not null unique check (email = lower(email)),
    name         text not null,
    role         text not null default 'member', -- member, manager
    password     text not null,                  -- argon2id, in PHC form
    created_at   timestamptz not null default now(),
    last_seen_at timestamptz not null default now()
);

create table sessions (
    token_hash bytea primary key, -- SHA-256: a copy of this table opens no session
    person     uuid not null references people on delete cascade,
    expires_at timestamptz not null
);
create index on sessions (person);
create index on sessions (expires_at);

create table transports (
    id            uuid primary key default gen_random_uuid(),
    sender        uuid references people on delete set null,
    driver        uuid references people on delete set null,
    status        text not null,
    title         text not null,
    note          text not null,
    from_name     text not null,
    from_lat      double precision not null,
    from_lng      double precision not null,
    to_name       text not null,
    to_lat        double precision not null,
    to_lng        double precision not null,
    window_start  timestamptz not null,
    window_end    timestamptz not null,
    size          text not null,
    weight_kg     integer not null,
    price_cents   integer not null,
    deal_cents    integer,
    handover_code text not null,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
create index on transports (sender);
create index on transports (driver);
create index on transports (window_end) where status in ('created', 'offer_pending', 'deal_accepted');

create table offers (
    id          uuid primary key default gen_random_uuid(),
    transport   uuid not null references transports on delete cascade,
    driver      uuid not null references people on delete cascade,
    status      text not null,
    price_cents integer not null,
    note        text not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
create index on offers (driver);
create unique index offers_one_open on offers (transport, driver) where status in ('proposed', 'countered');
create index on offers (transport);

-- What the tax office may ask for (GoBD, § 147 AO: ten years). It names no person: the
-- parties are references that go with their profiles, and "what" is written by the app.
create table transactions (
    id           uuid primary key default gen_random_uuid(),
    transport    uuid references transports on delete set null,
    payer        uuid references people on delete set null,
    receiver     uuid references people on delete set null,
    what         text not null,
    amount_cents integer not null,
    status       text not null, -- reserved, released, refunded
    created_at   timestamptz not null default now(),
    settled_at   timestamptz,
    keep_until   date not null
);
create index on transactions (transport);
create index on transactions (payer);
create index on transactions (receiver);

-- Every move of every transport and offer. Outlives both, without the person.
create table audit (
    id          bigint generated always as identity primary key,
    at          timestamptz not null default now(),
    transport   uuid not null,
    offer       uuid,
    verb        text not null,
    from_status text not null,
    to_status   text not null,
    part        text not null,
    actor       uuid references people on delete set null
);
create index on audit (transport, id);
create index on audit (actor);
