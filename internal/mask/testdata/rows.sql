-- $N is how many users there are. Nothing here is of anybody: the names are made of numbers.
alter table users disable trigger touch;
insert into users (id, role, first_name, last_name, display_name, email, phone, password_hash, birthday, street, plz, ort, lat, lon, last_ip, locale, tags, phones, profile, created_at)
select md5('u' || i)::uuid, (enum_range(null::role))[1 + i % 4], f, l, f || ' ' || l,
	f || '.' || l || i || case when i % 7 = 0 then '@Firma' || i % 900 || '.Example.ORG' else '@post.example.com' end,
	case when i % 10 <> 0 then '+49 17' || i % 10 || ' ' || lpad((i * 7919 % 100000000)::text, 8, '0') end,
	'$2b$10$' || substr(md5('h' || i) || md5('k' || i), 1, 53),
	date '1950-02-02' + (i % 20000)::int, 'Lindenstr. ' || i % 150 + 1, lpad((10000 + i * 37 % 89999)::text, 5, '0'), 'Ort ' || i % 400,
	47.3 + (i * 7919 % 77777) / 10000.0 + 0.000123, 6.1 + (i * 104729 % 88888) / 10000.0 + 0.000457,
	('192.0.2.' || i % 250 + 1)::inet, (array['de-DE', 'en-GB', 'pl-PL'])[1 + i % 3], array['früh', 'spät'],
	case when i % 3 = 0 then array['+49 30 ' || 7000000 + i, null] end,
	jsonb_build_object('contact', jsonb_build_object('email', f || '.' || l || i || '@privat.example.net', 'phone', '+48 60' || i % 10 || ' ' || 100000 + i % 899999),
		'bio', 'Ich heiße ' || f || ' und fahre gern.', 'newsletter', i % 2 = 0, 'rating', i % 6, 'vehicle', (array['van', 'car', 'truck'])[1 + i % 3],
		'friends', jsonb_build_array(jsonb_build_object('vorname', 'Freund' || i % 999), jsonb_build_object('vorname', 'Kumpel' || i % 777))),
	timestamptz '2025-01-01' + i * interval '1 minute'
from (select i, 'Vor' || translate((i % 3000)::text, '0123456789', 'abcdefghij') as f, 'Nach' || translate((i % 7001)::text, '0123456789', 'klmnoprstu') as l from generate_series(1, $N::bigint) i) x;
alter table users enable trigger touch;

insert into drivers (user_id, steuer_id, kennzeichen, home, seen_mac)
select id, lpad((10000000000 + n * 7)::text, 11, '1'), 'K-LM ' || n % 9999, point(lon, lat), ('02:00:00:' || substr(to_char(n, 'FM000000'), 1, 2) || ':' || substr(to_char(n, 'FM000000'), 3, 2) || ':' || substr(to_char(n, 'FM000000'), 5, 2))::macaddr
from (select id, lon, lat, row_number() over (order by id) as n from users where role = 'driver') x;

insert into transports (sender_id, driver_id, title, beschreibung, abholadresse, contact_email, status, price, created_at)
select id, null, 'Umzug von ' || first_name, 'Bitte bei ' || last_name || ' klingeln,' || E'\n\tTelefon 030 ' || 1234567 + n || E' \\ Hof.',
	street || ', ' || plz || ' ' || ort, email, (array['created', 'in_delivery', 'done'])[1 + n % 3], 10 + n % 90, created_at + n * interval '17 minutes'
from (select *, row_number() over (order by id) as n from users where role = 'sender') x;

insert into messages (from_mail, body) select email, 'Hallo, hier ist ' || display_name || '. Meine Mail: ' || email from users where role in ('sender', 'driver');

insert into payments
select md5('p' || n)::uuid, id, 'DE' || lpad((98 - ((bban || '131400')::numeric % 97))::text, 2, '0') || bban, 'DEUTDEFF', first_name || ' ' || last_name, 5 + n % 50
from (select *, '37040044' || lpad((n * 31)::text, 10, '0') as bban from (select *, row_number() over (order by id) as n from users) y) x;

insert into logins (email, session_token, user_agent) select upper(email), md5('s' || id), 'Mozilla/5.0 (X11; Linux x86_64)' from users where role <> 'admin';
create index on users using gin (profile jsonb_path_ops);
refresh materialized view towns;
analyze;
