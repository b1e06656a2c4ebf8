package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// said are the events about data on dev, without those of jobs.
func (s *site) said() (kinds []string) {
	s.t.Helper()
	events, err := s.ledger.Events(s.t.Context(), deploy.EventQuery{App: "shop", Stage: "dev"})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		if strings.HasPrefix(e.Kind, "snapshot.") || strings.HasPrefix(e.Kind, "restore") {
			kinds = append(kinds, strings.TrimPrefix(e.Kind, "snapshot."))
		}
	}
	return kinds
}

func (s *site) wantSaid(want ...string) {
	s.t.Helper()
	synctest.Wait()
	if got := s.said(); !slices.Equal(got, want) {
		s.t.Errorf("the ledger says %v, want %v", got, want)
	}
}

// done waits for the end of a job.
func (s *site) done(id string, err error) deploy.DataJob {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	var last deploy.DataJob
	if err := s.FollowData(s.t.Context(), id, func(j deploy.DataJob) error { last = j; return nil }); err != nil {
		s.t.Fatal(err)
	}
	return last
}

var onDev = deploy.DataRequest{Stage: "dev", By: deploy.Person{Name: "Ada", Mail: "ada"}}

func snapshotOf(of string) deploy.DataRequest { q := onDev; q.ID = of; return q }

// Every day at its time one snapshot is taken, proven, and what is too old pruned.
func TestDailySnapshots(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		s.deploy("one")
		pass(2 * time.Hour)
		s.wantSaid("taken", "proven") // its first
		pass(2 * time.Hour)           // past three
		s.wantSaid("taken", "proven", "taken", "proven")
		pass(24 * time.Hour)
		s.wantSaid("taken", "proven", "taken", "proven", "taken", "proven")
		if at := keeps.kept()[1].At.UTC(); at.Hour() != 3 || at.Minute() > 5 || keeps.kept()[1].Why != deploy.SnapshotDaily {
			t.Errorf("it is %+v", keeps.kept()[1])
		}
		if os.Getenv("LOTSE_PROVE") == "" {
			t.Log("NOT RUN without LOTSE_PROVE: nine more days, and what is pruned then")
			return
		}
		pass(9 * 24 * time.Hour)
		if len(keeps.kept()) > 9 || len(keeps.kept()) < 7 {
			t.Errorf("%d are kept", len(keeps.kept()))
		}
		if !slices.Contains(s.said(), "pruned") {
			t.Error("nothing was pruned")
		}
	})
}

// The first snapshot of a stage does not wait for the time of the day: it is taken when nobody has deployed for ten minutes, or an hour after
// the first release. One that could not be taken in time is told like any other.
func TestFirstSnapshot(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		s.deploy("one")
		pass(9 * time.Minute)
		s.wantSaid()
		pass(2 * time.Minute)
		s.wantSaid("taken", "proven")
		if first := keeps.kept()[0]; first.Why != deploy.SnapshotFirst || first.Release != digestOf("one") {
			t.Errorf("it is %+v", first)
		}
		s.deploy("two")
		pass(time.Hour)
		s.wantSaid("taken", "proven")
	})
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		for i := range 6 {
			s.deploy(fmt.Sprint("v", i))
			pass(8 * time.Minute)
			s.wantSaid()
		}
		for i := range 3 {
			s.deploy(fmt.Sprint("w", i))
			pass(4 * time.Minute)
		}
		s.wantSaid("taken", "proven")
		if n := len(keeps.kept()); n != 1 {
			t.Errorf("there are %d", n)
		}
	})
	inSite(t, func(t *testing.T, s *site) {
		s.keepsSnapshots()
		s.deploy("one")
		s.end()
		pass(90 * time.Minute)
		s.boot()
		pass(time.Minute)
		s.wantSaid("missed", "taken", "proven")
	})
}

// Where the platform takes snapshots it is asked daily, and for a drill once a week where nothing else is said; the status has news of both.
func TestSnapshotsOfAPlatform(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN without LOTSE_PROVE: the snapshots and drills of two weeks on a platform that takes them itself")
	}
	inSite(t, func(t *testing.T, s *site) {
		s.theirs = true
		s.keepsSnapshots(func(r *deploy.SnapshotRule) { r.Drills = "" })
		s.deploy("one")
		pass(4 * time.Hour)
		s.wantSaid("taken", "proven", "taken") // the first, and that of the day
		pass(6 * 24 * time.Hour)
		s.wantSaid("taken", "proven", "taken", "taken", "taken", "taken", "taken", "taken", "taken")
		status, err := s.DataStatus(t.Context(), "", "dev")
		if err != nil || len(status) != 1 || status[0].Snapshots != 8 || status[0].Wrong != "" || status[0].Loss == nil || *status[0].Loss < 6*24*time.Hour || status[0].Back == nil {
			t.Errorf("%+v, %v", status, err)
		}
		pass(24 * time.Hour)
		if said := s.said()[9:]; !slices.Contains(said, "proven") || !slices.Contains(said, "taken") {
			t.Errorf("in the week after, the ledger says %v", said)
		}
		s.snaps.with(func(s *snaps) { s.fail = deploy.ErrUnavailable })
		pass(30 * time.Hour)
		if status, err := s.DataStatus(t.Context(), "", "dev"); err != nil || status[0].Wrong == "" {
			t.Errorf("no news is good: %+v, %v", status, err)
		}
	})
}

// While no controller lives none is taken: that is told, and made good at once. A clock that jumps ahead or back by a year stops nothing.
func TestMissedSnapshots(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.keepsSnapshots()
		s.deploy("one")
		pass(4 * time.Hour)
		s.end()
		pass(30 * time.Hour)
		s.boot()
		pass(time.Minute)
		s.wantSaid("taken", "proven", "taken", "proven", "missed", "taken", "proven")
		s.jump.Store(int64(365 * 24 * time.Hour))
		pass(10 * time.Minute)
		if n := len(s.snaps.kept()); n != 1 { // those of a year before are pruned
			t.Errorf("after a jump ahead there are %d", n)
		}
		before := len(s.said())
		s.jump.Store(0)
		pass(26 * time.Hour)
		if now := s.said(); len(now) < before+2 || now[len(now)-1] != "proven" {
			t.Errorf("after a jump back the ledger says %v", now[before:])
		}
	})
}

// One that fails is tried again each hour, and told once.
func TestFailedSnapshot(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		s.deploy("one")
		keeps.with(func(s *snaps) { s.fail = deploy.Hint(fmt.Errorf("%w: 3 MB are free", deploy.ErrNoSpace), "make room") })
		pass(6 * time.Hour)
		events, err := s.ledger.Events(t.Context(), deploy.EventQuery{Kinds: []string{deploy.KindSnapshotFailed}})
		if err != nil || len(events) < 5 || len(events) > 7 {
			t.Fatalf("%d failed, %v", len(events), err)
		}
		for i, e := range events {
			var d struct {
				Failed, Hint, Code string
				Again              bool
			}
			if json.Unmarshal(e.Data, &d) != nil || d.Again != (i > 0) || d.Code != "no-space" || d.Hint != "make room" {
				t.Errorf("event %d is %s", i, e.Data)
			}
		}
		if all, err := s.DataStatus(t.Context(), "", ""); err != nil || len(all) != 1 || all[0].Wrong != "there is no snapshot" {
			t.Errorf("the status is %+v, %v", all, err)
		}
		keeps.with(func(s *snaps) { s.fail = nil })
		pass(2 * time.Hour)
		if all := s.said(); !slices.Equal(all[len(all)-2:], []string{"taken", "proven"}) {
			t.Errorf("afterwards: %v", all)
		}
	})
}

// A drill that fails is told, names what is wrong, and nothing is pruned.
func TestUnprovenSnapshot(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		s.deploy("one")
		pass(4 * time.Hour)
		var pruned, after int
		keeps.with(func(s *snaps) { pruned = s.pruned })
		keeps.with(func(s *snaps) { s.unproven = "the table orders has 3 rows, not 4" })
		pass(24 * time.Hour)
		s.wantSaid("taken", "proven", "taken", "proven", "taken", "unproven")
		if stages, err := s.Status(t.Context()); err != nil || stages[0].Data != "the last snapshot of its data could not be proven" {
			t.Errorf("the status is %+v, %v", stages[0], err)
		}
		if keeps.with(func(s *snaps) { after = s.pruned }); after != pruned {
			t.Error("after a failed drill something was pruned")
		}
		all, err := s.DataStatus(t.Context(), "shop", "dev")
		if err != nil || !strings.Contains(all[0].Wrong, "orders has 3 rows") || all[0].Proven.ID != "s002" {
			t.Errorf("the status is %+v, %v", all, err)
		}
		if all[0].Loss == nil || *all[0].Loss < 20*time.Hour || *all[0].Back != 10*time.Second {
			t.Errorf("a loss costs %v, coming back takes %v", all[0].Loss, all[0].Back)
		}
	})
}

// What a person asks for is taken at once, one at a time, and is drilled like any other.
func TestSnapshotByHand(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.keepsSnapshots(func(r *deploy.SnapshotRule) { r.Check = "bin/check" })
		if _, err := s.TakeSnapshot(t.Context(), onDev); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("where nothing was deployed: %v", err)
		}
		s.deploy("one")
		job, err := s.TakeSnapshot(t.Context(), onDev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.TakeSnapshot(t.Context(), onDev); !errors.Is(err, deploy.ErrBusy) {
			t.Errorf("a second one at once: %v", err)
		}
		if all, err := s.DataStatus(t.Context(), "", "dev"); err != nil || all[0].Going == nil || all[0].Going.ID != job {
			t.Errorf("the status is %+v %v", all, err)
		}
		if done := s.done(job, nil); done.Taken == nil || done.Why != deploy.SnapshotByHand || done.Actor == "" {
			t.Errorf("it ended %+v", done)
		}
		pass(time.Minute)
		s.wantSaid("taken", "proven")
		_, err = s.Drill(t.Context(), snapshotOf("s01"))
		if !errors.Is(err, deploy.ErrNotFound) || !strings.Contains(deploy.HintOf(err), "s001") {
			t.Errorf("an unknown one: %v (%s)", err, deploy.HintOf(err))
		}
		if done := s.done(s.Drill(t.Context(), onDev)); done.Proof == nil || done.Proof.Wrong != "" {
			t.Errorf("the drill ended %+v", done)
		}
	})
}

// A rollout takes a snapshot where its release migrates something that is there, and only there.
func TestSnapshotBeforeMigration(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		s.builder.files = map[string][]string{"one": {"db/1.sql"}, "two": {"db/1.sql"}, "three": {"db/1.sql", "db/2.sql"}, "four": {"db/3.sql"}, "five": {"db/5.sql"}}
		taken := func(r deploy.Rollout) bool { return slices.Contains(steps(r), "snapshot") }
		if taken(s.deploy("one")) || taken(s.deploy("two")) {
			t.Error("a new database, or one that nothing is changed in, was copied")
		}
		three := s.deploy("three")
		if !taken(three) || len(keeps.kept()) != 1 || keeps.kept()[0].Rollout != three.ID || keeps.kept()[0].Release != digestOf("two") || keeps.kept()[0].Why != deploy.SnapshotMigration {
			t.Fatalf("it went %v, and there is %+v", steps(three), keeps.kept())
		}
		for _, st := range three.Steps {
			if st.Name == "snapshot" && (len(st.Evidence) != 1 || !strings.Contains(st.Evidence[0].Figure, "s001, 1000 B in 10s")) {
				t.Errorf("the evidence is %+v", st.Evidence)
			}
		}
		pass(time.Minute)
		s.wantSaid("taken", "proven")

		keeps.with(func(s *snaps) { s.fail = fmt.Errorf("%w: no", deploy.ErrNoSpace) })
		four := s.deploy("four")
		if four.Outcome != deploy.Reverted || four.Turned.Step != "snapshot" || four.Turned.Code != "no-space" || slices.Contains(steps(four), "migrate") {
			t.Errorf("without a snapshot it went %v: %+v", steps(four), four.Turned)
		}
		q := deploy.Request{Dir: "/app", Rev: "five", Override: deploy.Override{WithoutSnapshot: true}}
		if _, err := s.Deploy(t.Context(), q); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("without a reason: %v", err)
		}
		q.Reason = "the disk is full"
		id, err := s.Deploy(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if five := s.ended(id); five.Outcome != deploy.Settled || five.Unsaved != q.Reason || five.Override != "" {
			t.Errorf("with a reason it is %+v", five)
		}
	})
}

// A rollout that migrates is killed before and after every moment, and taken up: it settles, and one snapshot was taken before its migration,
// however often it began.
func TestSnapshotStepKilledAnywhere(t *testing.T) {
	count := migratingVoyage(t, newPoints(0, false))
	if !slices.Contains(count.names, "take") {
		t.Fatalf("no snapshot is among %v", count.names)
	}
	for at, name := range count.names {
		for _, after := range []bool{false, true} {
			if near := at > 0 && count.names[at-1] == "take" || name == "take" || at+1 < len(count.names) && count.names[at+1] == "take"; near {
				t.Run(fmt.Sprintf("%d %s %t", at+1, name, after), func(t *testing.T) { migratingVoyage(t, newPoints(at+1, after)) })
			}
		}
	}
}

func migratingVoyage(t *testing.T, p *points) *points {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots()
		s.builder.files = map[string][]string{"one": {"db/1.sql"}, "two": {"db/1.sql", "db/2.sql"}}
		s.deploy("one")
		s.end()
		synctest.Wait()
		p.board(s)
		s.boot()
		_, err := s.begin(passage{commit: "two"}, p)
		s.awaitEndOrDeath(p)
		s.end()
		synctest.Wait()
		s.points = nil
		s.boot()
		last := s.lastRollout()
		if last.Commit == "two" {
			last = s.ended(last.ID)
			of := 0
			for _, one := range keeps.kept() {
				if one.Rollout == last.ID {
					of++
				}
			}
			if last.Outcome != deploy.Settled || of != 1 {
				t.Errorf("it ended %s with %d snapshots: %+v", last.Outcome, of, last.Turned)
			}
		} else if err == nil {
			t.Errorf("the last is %+v", last)
		}
		s.leaseIsFree()
	})
	return p
}
