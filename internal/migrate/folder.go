package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// file is one migration.
type file struct {
	name    string // in its folder
	version int64
	script
}

var (
	numbered = regexp.MustCompile(`^(\d+)([_\-. ].*)?$`)
	program  = regexp.MustCompile(`^\d+[_\-.].*\.(go|js|cjs|mjs|ts|py|rb|php)$`)
)

// read returns the migrations of a folder in their order. Every mistake that can be seen without a database is found here.
func read(files fs.FS, dir string) ([]file, error) {
	entries, err := fs.ReadDir(files, path.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, deploy.Hint(fmt.Errorf("%w: the release has no folder %s", deploy.ErrMigration, dir), "migrations: in lotse.yaml names a folder of the commit")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", deploy.ErrMigration, dir, err)
	}
	var all []file
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		stem, is := strings.CutSuffix(e.Name(), ".sql")
		switch {
		case e.IsDir():
			if at = path.Join(at, prisma); !there(files, at) {
				continue
			}
			stem = e.Name()
		case program.MatchString(e.Name()):
			return nil, deploy.Hint(fmt.Errorf("%w: %s is a program, and Lotse runs SQL alone", deploy.ErrMigration, at), "write it as SQL, or let a step of your own run all migrations")
		case !is || strings.HasSuffix(stem, ".down"):
			continue
		}
		match := numbered.FindStringSubmatch(stem)
		if match == nil {
			return nil, deploy.Hint(fmt.Errorf("%w: the name of %s begins with no number, which says when it runs", deploy.ErrMigration, at), "for example 0001_"+e.Name())
		}
		version, err := strconv.ParseInt(match[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: the number of %s is too long", deploy.ErrMigration, at)
		}
		raw, err := fs.ReadFile(files, at)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", deploy.ErrMigration, at, err)
		}
		script, err := parse(at, raw)
		if err != nil {
			return nil, err
		}
		all = append(all, file{name: strings.TrimPrefix(at, path.Clean(dir)+"/"), version: version, script: script})
	}
	slices.SortFunc(all, func(a, b file) int { return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.name, b.name)) })
	return all, unique(all)
}

// prisma is the one file in each of the folders that Prisma makes.
const prisma = "migration.sql"

func there(files fs.FS, at string) bool {
	_, err := fs.Stat(files, at)
	return err == nil
}

func unique(all []file) error {
	for i := 1; i < len(all); i++ {
		if all[i].version == all[i-1].version {
			return deploy.Hint(fmt.Errorf("%w: %s and %s have the same number, so that nothing says which runs first", deploy.ErrMigration, all[i-1].path, all[i].path),
				"give the newer one a greater number")
		}
	}
	return nil
}
