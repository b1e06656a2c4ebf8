package e2e_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// drizzleMigrate is what Drizzle's manual has a program do that migrates by itself.
const drizzleMigrate = `import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
await migrate(drizzle(client), { migrationsFolder: 'drizzle' });
await client.end();
`

// drizzleFolder is Drizzle's folder of migrations, as drizzle-kit writes it.
func drizzleFolder(texts ...string) map[string]string {
	files := map[string]string{}
	var entries []string
	for i, text := range texts {
		name := fmt.Sprintf("%04d_change", i)
		files["drizzle/"+name+".sql"] = text
		entries = append(entries, fmt.Sprintf(`{"idx":%d,"version":"7","when":%d,"tag":%q,"breakpoints":true}`, i, 1760000000000+i, name))
	}
	files["drizzle/meta/_journal.json"] = `{"version":"7","dialect":"postgresql","entries":[` + strings.Join(entries, ",") + `]}`
	return files
}

// Drizzle's own migrator, from npm, on real PostgreSQL: what it would do is seen on a clone before, and decides; what it does in the database
// is said; what fails there leaves the old release serving.
func TestDrizzle(t *testing.T) {
	provesOnly(t, "a real migration tool of npm's as the command of a database")
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("NOT RUN: npm is not installed, so that no migration tool of npm's is proven")
	}
	if said, err := exec.CommandContext(within(t, time.Minute), "npm", "view", "drizzle-orm@0.45.4", "version").CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: the registry of npm packages does not answer, so that no migration tool of npm's is proven: %v\n%.300s", err, said)
	}
	t.Parallel()
	m := newMachine(t)
	file := strings.Replace(m.roadFile("database: { postgres: 15, migrate: node migrate.mjs }\n"), "pipeline:\n", "pipeline:\n  deps: { run: npm install --no-audit --no-fund, makes: [node_modules] }\n", 1)
	file = strings.Replace(file, "files: [release.txt]", "files: [release.txt, migrate.mjs, drizzle, node_modules, package.json]", 1)
	sql := []string{"CREATE TABLE places (name text);\n"}
	files := drizzleFolder(sql...)
	files["lotse.yaml"], files["release.txt"], files["migrate.mjs"] = file, "0\n", drizzleMigrate
	files["package.json"] = `{ "name": "road", "private": true, "type": "module", "dependencies": { "drizzle-orm": "0.45.4", "pg": "8.23.1" } }`
	files[".gitignore"] = "node_modules\n"
	repo := m.repository(files)
	m.must(repo, "deploy")
	m.sql("dev", "INSERT INTO places VALUES ('Hamburg')")

	next := func(text string) {
		sql = append(sql, text)
		m.commit(repo, drizzleFolder(sql...))
	}
	next("ALTER TABLE places ADD zip text;\n--> statement-breakpoint\nCREATE TABLE towns (id int PRIMARY KEY);\n")
	if said := m.must(repo, "deploy"); !strings.Contains(said, "column places.zip is new") || !strings.Contains(said, "1 expand") {
		t.Errorf("what expands says\n%s", said)
	}
	next("ALTER TABLE places DROP COLUMN zip;\n")
	r := m.lotse(repo, "deploy")
	allow := regexp.MustCompile(`--allow-migration (drop-column:[0-9a-f]{8})`).FindStringSubmatch(r.err)
	if r.code != 1 || allow == nil || !strings.Contains(r.err, "`alter table places drop column zip`: drop-column (contract, places.zip") {
		t.Fatalf("what takes a column away: exit code %d\n%s", r.code, r.err)
	}
	if got := m.sql("dev", "SELECT count(zip) FROM places"); got != "0" {
		t.Errorf("it is %q", got)
	}
	if said := m.must(repo, "deploy", "--allow-migration", allow[1], "--reason", "no release reads it"); !strings.Contains(said, "column places.zip is gone") {
		t.Errorf("let in, it says\n%s", said)
	}
	next("UPDATE places SET name = (name::int)::text WHERE name = 'Hamburg';\n")
	before := m.about("dev").Release
	r = m.lotse(repo, "deploy")
	if last := m.newest(); r.code != 1 || last.Outcome != deploy.Reverted || last.Turned.Step != "migrate" || !strings.Contains(last.Turned.Why, "nothing of the schema is different") || m.about("dev").Release != before || strings.Contains(last.Turned.Why, "Hamburg") {
		t.Errorf("what fails on rows alone: exit code %d, %+v\n%s", r.code, last.Turned, r.err)
	}
	sql = sql[:len(sql)-1]
	next("INSERT INTO towns VALUES (1);\n")
	m.must(repo, "deploy")
	if got := m.sql("dev", "SELECT (SELECT count(*) FROM drizzle.__drizzle_migrations) || ' ' || (SELECT count(*) FROM towns)"); got != "4 1" {
		t.Errorf("Drizzle has noted and done %s, want 4 1", got)
	}
	m.must(repo, "rollback", "dev")
	t.Log("NOT RUN: Prisma, whose engines are downloaded from a place of its own")
}
