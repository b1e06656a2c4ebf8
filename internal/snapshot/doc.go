// Package snapshot hides how the data of a stage is frozen, proven and thawed: a database of PostgreSQL by its address, and the folders of
// volumes.
//
//	ROOT/APP/STAGE/lock                        held by who changes the snapshots of the stage
//	ROOT/APP/STAGE/ID/database.dump.zst.age    what pg_dump writes in its custom format, compressed, encrypted
//	ROOT/APP/STAGE/ID/volumes/NAME.tar.zst.age a folder
//	ROOT/APP/STAGE/ID/manifest.json            written last: without it the folder is nothing, and is taken away
//	ROOT/APP/STAGE/ID/proof.json               the outcome of the last drill
//
// ROOT is a folder, or a bucket of S3. What leaves this process is encrypted for recipients, so that who takes snapshots need not be able
// to read them.
//
// # One pass
//
// pg_dump reads from one moment that a transaction of ours holds (pg_export_snapshot). Its stream goes through a reader of the custom
// format, which counts the rows of each table and adds up a hash of each, through zstd and age to where it is kept. So what a restored
// database must be like costs the database nothing more; and a restored one is asked in the same way, by pg_dump through the same reader:
// rows, what they add up to, where sequences stand, and each thing of the schema by the statement that makes it.
//
// # What is left of a crash
//
// A snapshot without a manifest is taken away by the next call that changes the snapshots of its stage, under their lock. What a call needs
// for itself lies in a folder of its own that is locked for as long as its process lives: the files that tell PostgreSQL's programs where to
// go, and the scratch cluster. The next call of any process ends and removes what dead ones left. A decrypted dump is only ever in a file
// without a name, which is gone with the process.
//
// # What an error says
//
// deploy.ErrDamaged: this snapshot does not come back, and why. Every other error says that nothing was found out about it. Errors name
// tables, constraints and files; what PostgreSQL says of rows is left out.
package snapshot
