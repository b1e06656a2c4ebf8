CREATE TABLE events (
	seq     INTEGER PRIMARY KEY,
	at      TEXT NOT NULL,
	kind    TEXT NOT NULL,
	app     TEXT NOT NULL,
	stage   TEXT NOT NULL,
	rollout TEXT NOT NULL,
	release TEXT NOT NULL,
	actor   TEXT NOT NULL,
	data    TEXT NOT NULL,
	hash    TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_stage ON events (app, stage, seq);
CREATE INDEX events_by_rollout ON events (rollout, seq);

-- One row. Written with each event, so that events cut off at the end are missed.
CREATE TABLE head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash TEXT NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- A row stays for ever, since its fence must never become smaller. Nobody holds the lease when owner is empty.
CREATE TABLE leases (
	app   TEXT NOT NULL,
	stage TEXT NOT NULL,
	owner TEXT NOT NULL,
	fence INTEGER NOT NULL,
	until INTEGER NOT NULL, -- nanoseconds since 1970
	PRIMARY KEY (app, stage)
) STRICT;

-- What is left of a forgotten person is the id, which is random.
CREATE TABLE people (
	id        TEXT PRIMARY KEY,
	mailbox   TEXT UNIQUE, -- folded, to be compared; NULL when forgotten
	name      TEXT NOT NULL,
	mail      TEXT NOT NULL,
	forgotten INTEGER NOT NULL DEFAULT 0
) STRICT;

-- History is not edited, also not by mistake and with other tools.
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;
CREATE TRIGGER events_last BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
-- Paths may hold names (a home folder), so they stand beside the events, under random ids.
CREATE TABLE places (
	id   TEXT PRIMARY KEY,
	path TEXT NOT NULL UNIQUE
) STRICT;
