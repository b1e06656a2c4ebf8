// Package postgres hides how a PostgreSQL cluster is found, made, started, reached and thrown away, and how any other database is reached
// by its address (Address).
//
// It starts nothing in the background: Command says what to run, whoever keeps processes runs it. Start is for tests and for
// short work beside one process.
//
// # What is in the folder of a cluster
//
//	data/          the cluster itself, 0700, owned by the user that PostgreSQL runs as, with the server's certificate in it
//	run/           the unix socket; may be entered by everybody, since every role but the superuser needs a password
//	key            0600, owned by the caller: the passwords of roles are derived from it
//	authority.key  0600, owned by the caller: signs the server's certificate, and nothing else
//	authority.pem  what clients know the server by; everybody may read it
//	lock           held by Init while it works
//
// # Who may do what
//
// The superuser "postgres" has no password, so there is none to lose. It is reached over the socket alone, where the kernel
// says who asks (peer): root and the user that PostgreSQL runs as. Every other role has a password (SCRAM-SHA-256, RFC 7677)
// and a database of its own name, which no other role may enter. Over TCP, which is 127.0.0.1 alone, nobody comes in without TLS,
// and the DSN makes the client check that it talks to this cluster: whoever takes the port while the cluster does not run gets
// no password and no row.
//
// PostgreSQL never runs as root. When the caller is root, it runs as the user "postgres" that every package of it makes.
//
// # What is logged
//
// What concerns the server as a whole. Failed statements are told to whoever sent them and are not logged, since their text
// and PostgreSQL's own messages repeat values ("invalid input syntax for type integer: …"). Damaged pages are counted in
// pg_stat_database.checksum_failures.
package postgres
