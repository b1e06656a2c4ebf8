package deploy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
)

// applied are the migrations that the database of dev has seen.
func (s *site) applied() []string {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	return slices.Clone(s.data.applied["memory://shop/dev/"])
}

var three = map[string][]string{
	"one": {"db/1.sql"}, "two": {"db/1.sql", "db/2_contract.sql", "db/3.sql"}, "three": {"db/1.sql", "db/2_contract.sql", "db/3.sql", "db/4.sql"},
	"dangerous": {"db/1.sql", "db/2_dangerous.sql"}, "needy": {"db/1.sql", "db/2_contract.sql", "db/3_needs.sql"},
}

// What old code cannot stand waits until nothing old is warm, and runs then; from there on there is no way back to the old code.
func TestContractWaits(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = three
		s.deploy("one")
		if p := s.plan(deploy.Deployed, "", "two").Database; !slices.Equal(p.Wait, []string{"2_contract.sql"}) || p.Judged == nil || len(p.Judged.Files) != 2 || !strings.Contains(p.Says, "1 of them wait") {
			t.Errorf("the plan is %+v", p)
		}
		two := s.deploy("two")
		if two.Outcome != deploy.Settled || !slices.Equal(s.applied(), []string{"1.sql", "3.sql"}) || !slices.Equal(two.Waiting, []string{"2_contract.sql"}) {
			t.Fatalf("%+v\n has run %v", two, s.applied())
		}
		pass(two.Warm / 2)
		synctest.Wait()
		if slices.Contains(s.applied(), "2_contract.sql") {
			t.Fatal("it has run while the release before was warm")
		}
		pass(two.Warm + time.Minute)
		synctest.Wait()
		if !slices.Contains(s.applied(), "2_contract.sql") {
			t.Fatalf("it has not run: %v", s.applied())
		}
		_, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		refused(t, "the way back", err, deploy.ErrRefused, "older than the schema", "restore the snapshot")
		if got := codes(s.plan(deploy.RolledBack, "dev", "")); !slices.Equal(got, []string{"refused"}) {
			t.Errorf("the plan of it says %v", got)
		}
		_, err = s.Deploy(t.Context(), deploy.Request{Dir: "/shop", Rev: "one"})
		refused(t, "the old commit", err, deploy.ErrRefused, "2_contract.sql", "deploy a commit")
		if again := s.deploy("three"); again.Outcome != deploy.Settled || len(again.Waiting) != 0 || !slices.Contains(s.applied(), "4.sql") {
			t.Errorf("what comes after it is %+v", again)
		}
		if back, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"}); err != nil || s.ended(back).Outcome != deploy.Settled {
			t.Errorf("back to a release that knows it: %v", err)
		}
	})
}

// A release that goes back leaves what has waited undone, and one that comes back judges it anew.
func TestContractOfAReleaseThatGoesBack(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = three
		s.deploy("one")
		s.world.Behave(digestOf("two"), memory.Behaviour{Cause: "ended with exit code 2"})
		if two := s.deploy("two"); two.Outcome != deploy.Reverted {
			t.Fatalf("%+v", two)
		}
		pass(time.Hour)
		synctest.Wait()
		if slices.Contains(s.applied(), "2_contract.sql") {
			t.Error("it ran, and the old code serves")
		}
	})
}

// What is dangerous is let in by nobody, and neither is what needs a migration that waits. Nothing has run then.
func TestDangerousMigrations(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = three
		one := s.deploy("one")
		for commit, says := range map[string]string{"dangerous": "2_dangerous.sql, line 1: some-rule (dangerous): it does", "needy": "3_needs.sql needs 2_contract.sql, which has to wait"} {
			if got := codes(s.plan(deploy.Deployed, "", commit)); !slices.Equal(got, []string{"refused"}) {
				t.Errorf("%s: the plan says %v", commit, got)
			}
			r := s.deploy(commit)
			if r.Outcome != deploy.Reverted || r.Turned.Step != "entry" || r.Turned.Code != "refused" || !strings.Contains(r.Turned.Why, says) || r.Turned.Hint == "" {
				t.Errorf("%s: %+v", commit, r.Turned)
			}
		}
		if got := s.applied(); !slices.Equal(got, []string{"1.sql"}) || s.running()[one.ID] != 100 {
			t.Errorf("there ran %v", got)
		}
	})
}

// What failed when its time had come is told, and is not tried for ever; the next rollout judges it anew.
func TestContractFails(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = three
		s.deploy("one")
		two := s.deploy("two")
		s.data.mu.Lock()
		s.data.err = errors.Join(deploy.ErrMigration, errors.New("rows do not fit"))
		s.data.mu.Unlock()
		pass(two.Warm + time.Minute)
		synctest.Wait()
		r, err := s.Rollout(t.Context(), two.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(r.WaitFailed, "rows do not fit") || !slices.Equal(r.Waiting, []string{"2_contract.sql"}) {
			t.Errorf("%+v", r)
		}
		s.data.mu.Lock()
		s.data.err = nil
		s.data.mu.Unlock()
		again := s.deploy("three")
		if again.Outcome != deploy.Settled || !slices.Contains(s.applied(), "2_contract.sql") || !slices.Equal(again.Contracted, []string{"2_contract.sql"}) {
			t.Errorf("%+v ran %v", again, s.applied())
		}
		_, err = s.Rollback(t.Context(), deploy.Move{Stage: "dev", To: digestOf("one").Short()})
		refused(t, "the way back over it", err, deploy.ErrRefused, "older than the schema", "restore")
	})
}

// Who names what waits, and why, has it run at once; what was warm is gone then.
func TestContractByName(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = three
		s.deploy("one")
		two := s.deploy("two")
		for _, c := range []struct {
			q  deploy.Contracting
			is error
		}{
			{deploy.Contracting{Stage: "dev", Files: []string{"2_contract.sql"}}, deploy.ErrBadInput},
			{deploy.Contracting{Stage: "dev", Files: []string{"3.sql"}, Reason: "it is time"}, deploy.ErrBadInput},
			{deploy.Contracting{Stage: "prod", Files: []string{"2_contract.sql"}, Reason: "it is time"}, deploy.ErrRefused},
		} {
			if err := s.Contract(t.Context(), c.q); !errors.Is(err, c.is) {
				t.Errorf("%+v is %v", c.q, err)
			}
		}
		q := deploy.Contracting{Stage: "dev", Files: []string{"2_contract.sql"}, Reason: "it is time", By: bo}
		if err := s.Contract(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if got := s.running(); len(got) != 1 || got[two.ID] != 100 || !slices.Contains(s.applied(), "2_contract.sql") {
			t.Errorf("dev runs %v, and has %v", got, s.applied())
		}
		if err := s.Contract(t.Context(), q); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("again it is %v", err)
		}
	})
}

// evidence is what a step of a rollout has proven of a kind.
func evidence(r deploy.Rollout, step, probe string) string {
	var all []deploy.Evidence
	for _, s := range r.Steps {
		if s.Name == step {
			all = append(all, s.Evidence...)
		}
	}
	if r.Turned != nil && r.Turned.Step == step {
		all = append(all, r.Turned.Evidence...)
	}
	for _, e := range all {
		if e.Probe == probe {
			return e.Figure
		}
	}
	return ""
}

// A person lets one migration in, with a reason, which is kept: the one that was shown, and no other.
func TestAllowMigration(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = map[string][]string{"one": {"db/1.sql"}, "two": {"db/1.sql", "db/2_dangerous.sql"}, "three": {"db/1.sql", "db/2_dangerous.sql", "db/3_dangerous.sql"}}
		s.deploy("one")
		p := s.plan(deploy.Deployed, "", "two")
		shown := "some-rule:" + deploy.AllowanceKey("2_dangerous.sql")
		if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Hint, "--allow-migration "+shown+" --reason") {
			t.Fatalf("the plan does not say how: %+v", p.Refused)
		}
		asked := func(rev, reason string, allow ...string) (string, error) {
			return s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: rev, By: deploy.Person{Name: "Eve"}, Override: deploy.Override{AllowMigration: allow, Reason: reason}})
		}
		_, err := asked("two", "", shown)
		refused(t, "without a reason", err, deploy.ErrBadInput, "--allow-migration needs a reason", "--reason")
		_, err = asked("two", "  ", shown)
		refused(t, "with an empty reason", err, deploy.ErrBadInput, "--allow-migration needs a reason", "--reason")
		_, err = asked("two", "the table is empty", "some-rule")
		refused(t, "without a key", err, deploy.ErrBadInput, "names no migration", "lotse plan")
		for rev, allow := range map[string]string{"two": "some-rule:" + deploy.AllowanceKey("3_dangerous.sql"), "three": shown} {
			id, err := asked(rev, "the table is empty", allow)
			if err != nil {
				t.Fatal(err)
			}
			if r := s.ended(id); r.Outcome != deploy.Reverted || r.Turned.Step != "entry" || r.Turned.Code != "refused" {
				t.Errorf("%s with %s is %s, %+v", rev, allow, r.Outcome, r.Turned)
			}
		}
		if got := s.applied(); !slices.Equal(got, []string{"1.sql"}) {
			t.Fatalf("there ran %v", got)
		}
		if p, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.Deployed, Deploy: deploy.Request{Dir: "/app", Rev: "two", Override: deploy.Override{AllowMigration: []string{shown}, Reason: "it is empty"}}}); err != nil || len(p.Refused) > 0 {
			t.Errorf("the plan with it: %+v, %v", p.Refused, err)
		}
		id, err := asked("two", "the table is empty", shown)
		if err != nil {
			t.Fatal(err)
		}
		r := s.ended(id)
		if said := evidence(r, "entry", "migration allowed"); r.Outcome != deploy.Settled || !strings.Contains(said, shown) || !strings.Contains(said, "2_dangerous.sql") || !strings.Contains(said, "the table is empty") {
			t.Errorf("%s, %q", r.Outcome, said)
		}
		if r.AllowedWhy != "the table is empty" || !slices.Equal(r.Allowed, []string{shown}) || r.Actor == "" {
			t.Errorf("the history has %q, %q, %q", r.AllowedWhy, r.Allowed, r.Actor)
		}
	})
}

// What could not be judged is refused where a release serves that it could break, unless somebody says that it may run as it is.
func TestUnjudgedMigrations(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = three
		s.data.without = deploy.Hint(fmt.Errorf("%w: no PostgreSQL is here", deploy.ErrUnsupported), "apt-get install postgresql")
		if one := s.deploy("one"); one.Outcome != deploy.Settled {
			t.Fatalf("the first of the stage: %+v", one.Turned)
		}
		p := s.plan(deploy.Deployed, "", "two")
		if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Message, "could not be judged") || !strings.Contains(p.Refused[0].Hint, "apt-get install") {
			t.Fatalf("the plan says %+v", p.Refused)
		}
		_, allow, _ := strings.Cut(p.Refused[0].Hint, "--allow-migration ")
		allow, _, _ = strings.Cut(allow, " ")
		two := s.deploy("two")
		if two.Outcome != deploy.Reverted || two.Turned.Code != "refused" || !strings.Contains(two.Turned.Hint, allow) || !slices.Equal(s.applied(), []string{"1.sql"}) {
			t.Fatalf("%+v, there ran %v", two.Turned, s.applied())
		}
		for rev, settled := range map[string]bool{"three": false, "two": true} { // the key is of the files of the other
			id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: rev, Override: deploy.Override{AllowMigration: []string{allow}, Reason: "read by two people"}})
			if err != nil {
				t.Fatal(err)
			}
			if r := s.ended(id); (r.Outcome == deploy.Settled) != settled || settled && !strings.Contains(evidence(r, "entry", "migrations judged"), "NOT JUDGED, so all of them run at once, by --allow-migration "+allow+": read by two people") {
				t.Errorf("%s: %s, %+v", rev, r.Outcome, r.Turned)
			}
		}
	})
}

// A command is tried before, runs as a whole before the release starts, and is refused where it takes something from the code that serves.
func TestMigrateByCommand(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("dev", func(st *deploy.Stage) { st.Database = deploy.Database{Postgres: 15, Migrate: "tool up"} })
		one := s.deploy("one")
		if got := evidence(one, "migrate", "migrations"); one.Outcome != deploy.Settled || !strings.Contains(got, "`tool up` ran in ") || !strings.Contains(got, "table x is new") {
			t.Errorf("%s, %+v, %q", one.Outcome, one.Turned, got)
		}
		if !slices.Equal(s.data.ran, []string{"tool up on memory://shop/dev/"}) {
			t.Errorf("there ran %q", s.data.ran)
		}
		s.data.ran = nil
		s.data.tool = []deploy.JudgedFile{{Name: "tool up, transaction 1", Verdicts: []deploy.Verdict{{Class: deploy.Contract, Rule: "drop-column", Says: "alter table x drop y", Safer: "another way", Key: deploy.AllowanceKey("y")}}}}
		two := s.deploy("two")
		if two.Outcome != deploy.Reverted || two.Turned.Step != "entry" || !strings.Contains(two.Turned.Why, "`alter table x drop y`: drop-column (contract") || !strings.Contains(two.Turned.Hint, "--allow-migration drop-column:"+deploy.AllowanceKey("y")) ||
			strings.Contains(two.Turned.Hint, "lotse:allow") || !slices.Equal(s.data.ran, []string{"tool up on memory://clone"}) {
			t.Errorf("%+v, there ran %q", two.Turned, s.data.ran)
		}
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two", Override: deploy.Override{AllowMigration: []string{"drop-column:" + deploy.AllowanceKey("y")}, Reason: "nobody reads it"}})
		if err != nil {
			t.Fatal(err)
		}
		if r := s.ended(id); r.Outcome != deploy.Settled || len(r.Waiting) > 0 {
			t.Errorf("%s, %+v", r.Outcome, r.Turned)
		}
		s.data.tool, s.data.exit = nil, &deploy.ExitError{Command: "tool up", Code: 3, Tail: []string{"no"}}
		three := s.deploy("three")
		if three.Outcome != deploy.Reverted || !strings.Contains(three.Turned.Why, "exit code 3") {
			t.Errorf("%s, %+v", three.Outcome, three.Turned)
		}
		s.data.exit, s.data.without = nil, fmt.Errorf("%w: no PostgreSQL is here", deploy.ErrUnsupported)
		if r := s.deploy("four"); r.Outcome != deploy.Reverted || r.Turned.Code != "refused" {
			t.Errorf("not judged: %s, %+v", r.Outcome, r.Turned)
		}
		back, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		if r := s.ended(back); r.Outcome != deploy.Settled {
			t.Errorf("the way back, not judged: %s, %+v", r.Outcome, r.Turned)
		}
	})
}
