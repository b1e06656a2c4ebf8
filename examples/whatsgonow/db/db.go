// Package db carries the schema's history for the tests. On a stage, Lotse applies it
// before it starts the release; see database in lotse.yaml.
//
// Migrations are plain SQL, named by the moment they were written, and never changed
// once applied. They only expand: the release before must run on the tables of the one
// after, because for a while both do. What is no longer needed goes one release after
// the last that used it.
package db

import (
	"embed"
	"io/fs"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations holds the *.sql files, to be applied in the order of their names.
func Migrations() fs.FS {
	dir, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the path above is valid
	}
	return dir
}
