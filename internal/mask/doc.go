// Package mask hides how a database is copied without the people in it.
//
// # The story
//
//	schema   read what tables, columns, keys and indexes there are        one moment of the source: REPEATABLE READ, READ ONLY,
//	find     judge each column by name, type and a sample of its values   and its snapshot exported to whoever reads beside it
//	plan     what each column becomes; what cannot be judged stops it
//	tables   pg_dump | pg_restore of what comes before rows
//	rows     COPY out, mask, COPY in; two tables at a time
//	indexes  pg_restore of what comes after rows: unique indexes and foreign keys prove uniqueness and joins
//	check    original values, read again from the source, are looked for in every row of the copy
//
// # What dies on the way
//
// The first thing that comes into the target is a mark (a schema of its own), the last that is done is to take it away. A target with the
// mark is half, and the next copy into it begins with taking away all that is in it; a target with other things in it is refused. The source
// is read in transactions that end with their connections.
//
// # What is read
//
// Rows of tables as the role of the address sees them without row level security (the server refuses where it would hide rows). Large objects,
// foreign tables and subscriptions are left out, and so are the owners and rights of tables: all is the target's role's. Tables that an
// extension brought are the extension's. Volumes are no part of a database, and what people uploaded stays where it is.
package mask
