-- What every project of Supabase has before its first migration, as far as migrations speak of it. RUNNER owns it, so that files which
-- add triggers to auth.users and policies to storage.objects run as they do there.
create schema if not exists auth authorization RUNNER;
create schema if not exists storage authorization RUNNER;
create schema if not exists extensions authorization RUNNER;
create schema if not exists graphql_public authorization RUNNER;
create schema if not exists realtime authorization RUNNER;
create schema if not exists vault authorization RUNNER;
set role RUNNER;
grant usage on schema auth, storage, extensions, public to anon, authenticated, service_role;
create table auth.users (
	id uuid primary key, instance_id uuid, aud varchar(255), role varchar(255), email varchar(255), encrypted_password varchar(255), email_confirmed_at timestamptz,
	invited_at timestamptz, confirmation_sent_at timestamptz, last_sign_in_at timestamptz, raw_app_meta_data jsonb, raw_user_meta_data jsonb, is_super_admin boolean,
	created_at timestamptz, updated_at timestamptz, phone text unique, phone_confirmed_at timestamptz, confirmed_at timestamptz, banned_until timestamptz,
	is_sso_user boolean not null default false, deleted_at timestamptz, is_anonymous boolean not null default false);
create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
create function auth.uid() returns uuid language sql stable as $$ select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$;
create function auth.role() returns text language sql stable as $$ select nullif(current_setting('request.jwt.claim.role', true), '')::text $$;
create function auth.email() returns text language sql stable as $$ select nullif(current_setting('request.jwt.claim.email', true), '')::text $$;
create function auth.jwt() returns jsonb language sql stable as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
create table storage.buckets (id text primary key, name text not null unique, owner uuid, created_at timestamptz default now(), updated_at timestamptz default now(),
	public boolean default false, avif_autodetection boolean default false, file_size_limit bigint, allowed_mime_types text[], owner_id text);
create table storage.objects (id uuid primary key default gen_random_uuid(), bucket_id text references storage.buckets, name text, owner uuid, created_at timestamptz default now(),
	updated_at timestamptz default now(), last_accessed_at timestamptz default now(), metadata jsonb, path_tokens text[], version text, owner_id text, user_metadata jsonb);
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
create function storage.foldername(name text) returns text[] language sql immutable as $$ select (string_to_array(name, '/'))[1:array_length(string_to_array(name, '/'), 1) - 1] $$;
create function storage.filename(name text) returns text language sql immutable as $$ select (string_to_array(name, '/'))[array_length(string_to_array(name, '/'), 1)] $$;
create function storage.extension(name text) returns text language sql immutable as $$ select reverse(split_part(reverse(storage.filename(name)), '.', 1)) $$;
reset role;
create publication supabase_realtime;
alter publication supabase_realtime owner to RUNNER;
