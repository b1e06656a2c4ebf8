// Package migrate hides what a folder of SQL files does to the database of a stage: which of them it has seen, which are to run, in
// which order, in which transaction, and what stands when one fails.
//
// # Files
//
// What teams have: NNN_name.sql or a timestamp in front, golang-migrate's NAME.up.sql (NAME.down.sql is not read), goose's and
// dbmate's annotations, Supabase's and Atlas' folders (atlas.sum is not read). A file's number is what its name begins with; the
// order is that of the numbers. Two files of one number are refused: which of them would run first is nowhere said.
//
// # One file
//
// It runs in one transaction, together with the record that it ran: all of it or nothing, also when this process or the server
// is killed. What PostgreSQL does not let into a transaction (CREATE INDEX CONCURRENTLY, VACUUM, the use of a new value of an enum)
// is found out by its refusal, or by the file's annotation; then every statement is a step of its own with its record, in a
// transaction where it can be in one, and the next run goes on behind the last that was done.
//
// # What the database knows
//
// The table lotse.migrations, in a schema of its own: nothing of the app's sees it, and neither does what is published of the schema
// public, as Supabase does. Where the role may not make a schema, it is lotse_migrations in the role's first schema, closed by
// row level security. One run works at a time: the others wait for an advisory lock, which ends with its connection.
//
// # What is told
//
// Errors have the place in the file and PostgreSQL's words, but not the parts that repeat values: DETAIL is left out, and so are the
// messages about a value and those that a migration makes itself. The address of the database is in no error.
package migrate
