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

// holds has dev work with a text, of which there is a snapshot, and then with another.
func (s *site) holds(t *testing.T, then, now string) (snapshot string) {
	t.Helper()
	live := memory.Open(s.world, "shop", "dev").DataURL()
	s.deploy("one")
	s.world.Write(live, then)
	taken := s.done(s.TakeSnapshot(t.Context(), onDev))
	s.world.Write(live, now)
	pass(time.Minute) // the drill
	return taken.Snapshot
}

// Data comes back beside what is there, is checked, and takes its place under a hold; what was there is kept until it is told.
func TestRestore(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		keeps := s.keepsSnapshots(func(r *deploy.SnapshotRule) { r.Check = "bin/check" })
		snapshot := s.holds(t, "monday", "tuesday")
		stop := s.askAllTheTime()
		job, err := s.Restore(t.Context(), snapshotOf(snapshot))
		if err != nil {
			t.Fatal(err)
		}
		for what, ask := range map[string]func() error{
			"a restore":  func() error { _, err := s.Restore(t.Context(), snapshotOf(snapshot)); return err },
			"a snapshot": func() error { _, err := s.TakeSnapshot(t.Context(), onDev); return err },
			"a rollout":  func() error { _, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"}); return err },
			"a hold": func() error {
				_, err := s.Hold(t.Context(), deploy.Closing{Stage: "dev", Bounds: &deploy.Bounds{}})
				return err
			},
		} {
			if err := ask(); !errors.Is(err, deploy.ErrBusy) {
				t.Errorf("%s meanwhile: %v", what, err)
			}
		}
		done := s.done(job, nil)
		stop()
		if done.Failed != "" || done.Kept != job || s.world.DataOf("shop", "dev") != "monday" {
			t.Fatalf("it ended %+v, and dev has %q", done, s.world.DataOf("shop", "dev"))
		}
		var last string
		if keeps.with(func(s *snaps) { last = s.checked[len(s.checked)-1] }); !strings.HasPrefix(last, "bin/check DATABASE_URL memory://shop/dev/"+job) {
			t.Errorf("the check was run as %q", last)
		}
		s.leaseIsFree()
		s.nothingBeside()
		all, err := s.DataStatus(t.Context(), "shop", "dev")
		if err != nil || len(all[0].Kept) != 1 || all[0].Kept[0].ID != job {
			t.Fatalf("kept: %+v, %v", all, err)
		}
		if err := s.Forget(t.Context(), snapshotOf("other")); !errors.Is(err, deploy.ErrNotFound) || !strings.Contains(deploy.HintOf(err), job) {
			t.Errorf("forget another: %v", err)
		}
		if err := s.Forget(t.Context(), snapshotOf(job)); err != nil {
			t.Error(err)
		}
		if all, err := s.DataStatus(t.Context(), "shop", "dev"); err != nil || len(all[0].Kept) != 0 {
			t.Errorf("afterwards: %+v, %v", all, err)
		}
		if two := s.deploy("two"); two.Outcome != deploy.Settled {
			t.Errorf("the next deploy is %+v", two.Turned)
		}
	})
}

// What is refused is refused before anything is made.
func TestRestoreRefused(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.free = 1 << 40
		keeps := s.keepsSnapshots()
		snapshot := s.holds(t, "monday", "tuesday")
		refused := func(q deploy.DataRequest, want error, hint string) {
			t.Helper()
			if _, err := s.Restore(t.Context(), q); !errors.Is(err, want) || !strings.Contains(deploy.HintOf(err), hint) {
				t.Errorf("%+v: %v (%s)", q, err, deploy.HintOf(err))
			}
		}
		other := snapshotOf(snapshot)
		other.To = "staging"
		refused(other, deploy.ErrRefused, "")
		refused(onDev, deploy.ErrBadInput, "lotse db snapshots")
		refused(snapshotOf("s0O1"), deploy.ErrNotFound, `did you mean "s001"?`)
		keeps.with(func(s *snaps) { s.all[0].Content = 1 << 39 })
		s.free = 1 << 38
		refused(snapshotOf(snapshot), deploy.ErrNoSpace, "make room")
		keeps.with(func(s *snaps) { s.all[0].Damaged = "the end is missing" })
		refused(snapshotOf(snapshot), deploy.ErrDamaged, "")
		s.leaseIsFree()
		s.nothingBeside()
	})
}

// What fails changes nothing of what serves.
func TestRestoreGoesBack(t *testing.T) {
	for name, spoil := range map[string]func(s *site){
		"the snapshot does not come back": func(s *site) {
			s.snaps.with(func(k *snaps) { k.noRestore = fmt.Errorf("%w: orders", deploy.ErrDamaged) })
		},
		"the check refuses it": func(s *site) { s.snaps.with(func(k *snaps) { k.refuse = errors.New("exit code 1") }) },
		"nothing answers with it": func(s *site) {
			for _, r := range s.lastSettledOnDev() {
				_ = s.world.Break("shop", "dev", r, "api", 0, "no such table")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				s.keepsSnapshots(func(r *deploy.SnapshotRule) { r.Check = "bin/check" })
				snapshot := s.holds(t, "monday", "tuesday")
				spoil(s)
				done := s.done(s.Restore(t.Context(), snapshotOf(snapshot)))
				if done.Failed == "" || done.Turned == nil || s.world.DataOf("shop", "dev") != "tuesday" {
					t.Errorf("it ended %+v, and dev has %q", done, s.world.DataOf("shop", "dev"))
				}
				s.nothingBeside()
				s.leaseIsFree()
				if now, err := memory.Open(s.world, "shop", "dev").Closed(t.Context()); err != nil || !now.Until.IsZero() {
					t.Errorf("a hold is left: %+v %v", now, err)
				}
				if !slices.Contains(s.said(), "restore.failed") {
					t.Errorf("the ledger says %v", s.said())
				}
			})
		})
	}
}

func (s *site) lastSettledOnDev() (ids []string) {
	for id, share := range s.running() {
		if share == 100 {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *site) nothingBeside() {
	s.t.Helper()
	if left := s.world.Beside("shop", "dev"); len(left) > 0 {
		s.t.Errorf("%v were left beside", left)
	}
}

// The controller is killed at every moment of a restore at which it writes or calls an engine, and started again. Then the stage works with the
// one or the other, whole, nothing else is left, and the job is over.
func TestRestoreKilledAnywhere(t *testing.T) {
	count := restoreVoyage(t, newPoints(0, false))
	t.Logf("%d moments: %v", count.passed, count.names)
	if count.passed < 15 {
		t.Fatalf("there are %d moments", count.passed)
	}
	for _, at := range everyNthOf(t, count.passed, 40) {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s %t", at, count.names[at-1], after), func(t *testing.T) { restoreVoyage(t, newPoints(at, after)) })
		}
	}
}

func restoreVoyage(t *testing.T, p *points) *points {
	inSite(t, func(t *testing.T, s *site) {
		s.keepsSnapshots(func(r *deploy.SnapshotRule) { r.Check = "bin/check" })
		snapshot := s.holds(t, "monday", "tuesday")
		s.end()
		synctest.Wait()
		p.board(s)
		s.boot()
		job := ""
		select {
		case <-s.Ready():
			if id, err := s.Restore(t.Context(), snapshotOf(snapshot)); err == nil {
				job = id
			}
		case <-p.died:
		}
		select {
		case <-p.died:
		case <-time.After(5 * time.Minute):
		}
		s.end()
		synctest.Wait()
		s.points = nil
		s.boot()
		pass(5 * time.Minute)
		got := s.world.DataOf("shop", "dev")
		if job != "" && got != "monday" || job == "" && got != "monday" && got != "tuesday" {
			t.Errorf("dev has %q after restore %q", got, job)
		}
		if job != "" {
			if done := s.done(job, nil); !done.Over || done.Failed != "" {
				t.Errorf("it ended %+v", done)
			}
		}
		s.nothingBeside()
		s.leaseIsFree()
		if now, err := memory.Open(s.world, "shop", "dev").Closed(t.Context()); err != nil || !now.Until.IsZero() {
			t.Errorf("a hold is left: %+v %v", now, err)
		}
		if err := s.ledger.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		if two := s.deploy("two"); two.Outcome != deploy.Settled {
			t.Errorf("the next deploy is %+v", two.Turned)
		}
	})
	return p
}

// Who needs the data back does not wait for a drill: that is set aside, tells nobody, and is held again afterwards.
func TestRestoreSetsADrillAside(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.keepsSnapshots()
		snapshot := s.holds(t, "monday", "tuesday")
		drill, err := s.Drill(t.Context(), snapshotOf(snapshot))
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		done := s.done(s.Restore(t.Context(), snapshotOf(snapshot)))
		if done.Failed != "" || s.world.DataOf("shop", "dev") != "monday" || time.Since(begun) > 15*time.Second {
			t.Errorf("it ended after %s: %+v", time.Since(begun), done)
		}
		if aside := s.done(drill, nil); !aside.Over || aside.Code != "aborted" {
			t.Errorf("the drill is %+v", aside)
		}
		s.wantSaid("taken", "proven", "restored")
		if again := s.done(s.Drill(t.Context(), onDev)); again.Failed != "" {
			t.Errorf("the next drill: %+v", again)
		}
	})
}
