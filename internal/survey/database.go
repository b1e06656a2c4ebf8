package survey

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// oldestPostgres is the oldest version that lotse.yaml may name.
const oldestPostgres = 13

// databases finds a PostgreSQL that the app wants.
func (s *survey) databases() {
	if s.tree.has("supabase/config.toml") || s.tree.folder("supabase/migrations") {
		s.supabase()
		return
	}
	if !s.wantsPostgres() {
		return
	}
	migrations := s.migrations()
	text := "postgres: " + number(s.facts.Postgres)
	if s.facts.Postgres < oldestPostgres {
		text, s.dbOff = "postgres: 15", true
		s.dbNotes = append(s.dbNotes, "There is no PostgreSQL on this machine, or an old one. Install one and write its major version, or { url: NAME_OF_A_SECRET } for one elsewhere.")
		s.decide("database", "the app wants PostgreSQL, and there is none on this machine, or one older than 13: install it, then take the # away")
	} else {
		s.tell("PostgreSQL", "the code reads DATABASE_URL; Lotse runs a database for every stage and sets it")
	}
	if migrations != "" {
		text += ", migrations: " + scalar(migrations)
		s.tell("migrations", "the SQL files in %s are run before a release starts", migrations)
	}
	s.database = "{ " + text + " }"
}

func number(n int) string {
	if n >= 10 {
		return number(n/10) + number(n%10)
	}
	return string(rune('0' + n))
}

var postgresPackages = []string{"pg", "postgres", "@prisma/client", "drizzle-orm", "knex", "sequelize", "typeorm", "kysely", "@mikro-orm/postgresql", "slonik", "pg-promise"}

// wantsPostgres asks for the variable and for a driver: one alone may be of another database.
func (s *survey) wantsPostgres() bool {
	for _, p := range s.parts {
		if p.fit.site() {
			continue
		}
		reads := s.tree.says(p.dir, "DATABASE_URL") || strings.Contains(s.tree.text(under(p.dir, "prisma/schema.prisma")), "DATABASE_URL")
		prisma := s.tree.text(under(p.dir, "prisma/schema.prisma"))
		switch {
		case !reads || prisma != "" && !says(prisma, `provider\s*=\s*"postgres(ql)?"`):
		case p.pkg != nil && p.pkg.uses(postgresPackages...):
			return true
		case p.mod != nil && says(s.tree.text(under(p.dir, "go.mod")), `(?m)jackc/pgx|lib/pq\b|uptrace/bun\b|gorm\.io/driver/postgres`):
			return true
		}
	}
	return false
}

var (
	migrationFolder = regexp.MustCompile(`(^|/)(migrations?|drizzle|migrate)$`)
	numberedName    = regexp.MustCompile(`^(\d+)([_. -]|$)`)
	numberedProgram = regexp.MustCompile(`^\d+[_.-].*\.(go|js|cjs|mjs|ts|py|rb|php)$`)
)

// migrations is a folder of SQL files that Lotse can run as they are: each with a number of its own in front, or in front of its
// folder, as Prisma has it. "" where there is none.
func (s *survey) migrations() string {
	names, programs := map[string][]string{}, map[string]bool{}
	for _, f := range s.tree.sorted {
		dir, name := path.Dir(f), path.Base(f)
		if name == "migration.sql" {
			dir, name = path.Dir(dir), path.Base(dir)+".sql"
		}
		if !migrationFolder.MatchString(dir) || !says(dir, plainPath) || strings.HasSuffix(name, ".down.sql") {
			continue
		}
		if path.Ext(name) == ".sql" {
			names[dir] = append(names[dir], name)
		}
		programs[dir] = programs[dir] || numberedProgram.MatchString(name)
	}
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		switch odd := unnumbered(names[dir]); {
		case programs[dir]:
			s.decide("migrations", "%s holds programs beside SQL, and Lotse runs SQL alone; let a step of your own run them", dir)
		case odd != "":
			s.decide("migrations", "%s is not taken: %s has no number of its own in front, which would say when it runs; with one, write migrations: %s", dir, odd, dir)
		default:
			return dir
		}
	}
	return ""
}

// unnumbered is the first name without a number in front that no other has; "" where all have one.
func unnumbered(names []string) string {
	seen := map[string]bool{}
	for _, name := range names {
		found := numberedName.FindStringSubmatch(strings.TrimSuffix(name, ".sql"))
		if found == nil || seen[found[1]] {
			return name
		}
		seen[found[1]] = true
	}
	return ""
}

// supabase is somebody else's PostgreSQL. Its address is a secret that nobody has set yet, so that the lines are comments.
func (s *survey) supabase() {
	s.database, s.dbOff = "{ url: SUPABASE_DB_URL }", true
	if s.tree.folder("supabase/migrations") {
		s.database = "{ url: SUPABASE_DB_URL, migrations: supabase/migrations }"
	}
	s.dbNotes = []string{"Supabase: to have Lotse run the migrations before a release starts, set the secret SUPABASE_DB_URL of every stage",
		"(Project settings, Database, Connection string) and take the # away."}
	s.tell("Supabase", "supabase/: its database stays where it is")
	s.decide("database", "to have Lotse run supabase/migrations, set the secret SUPABASE_DB_URL of every stage and take the # away")
	if s.tree.folder("supabase/functions") {
		s.decide("supabase/functions", "Lotse does not deploy edge functions: `supabase functions deploy` does")
	}
}
