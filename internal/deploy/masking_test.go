package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/secret"
)

// masks copies texts in memory. What it does to people is not shown here.
type masks struct {
	world *memory.World
	named []deploy.PersonalColumn
	fail  error
}

func (m *masks) Copy(ctx context.Context, o deploy.MaskOrder) (deploy.MaskReport, error) {
	if err := wait(ctx, 10*time.Second); err != nil {
		return deploy.MaskReport{}, err
	}
	m.named = o.Named
	if m.fail != nil {
		return deploy.MaskReport{}, m.fail
	}
	if !m.world.Write(o.To, "masked "+m.world.Read(o.From)) {
		return deploy.MaskReport{}, errors.New("there is no such database")
	}
	return deploy.MaskReport{Tables: 1, Rows: 7, Copying: time.Second, Checked: 9}, nil
}

func (m *masks) Find(_ context.Context, database secret.Text, named []deploy.PersonalColumn) (deploy.People, error) {
	m.named = named
	return deploy.People{Columns: []deploy.ColumnFinding{{Column: "orders.note", Why: m.world.Read(database)}}}, nil
}

// copies has dev and staging serve and work with texts.
func (s *site) copies(t *testing.T) *masks {
	t.Helper()
	s.masks = &masks{world: s.world}
	s.builder.app.People = []deploy.PersonalColumn{{Column: "orders.note", Kind: "text"}}
	s.keepsSnapshots()
	s.deploy("one")
	s.promote("staging")
	s.world.Write(memory.Open(s.world, "shop", "staging").DataURL(), "real")
	s.world.Write(memory.Open(s.world, "shop", "dev").DataURL(), "old")
	return s.masks
}

func copyTo(stage, from string) deploy.DataRequest {
	return deploy.DataRequest{App: "shop", Stage: stage, From: from}
}

// A stage gets the data of a later one, people masked, and keeps what it had until it is told.
func TestCopyData(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		m := s.copies(t)
		stop := s.askAllTheTime()
		done := s.done(s.CopyData(t.Context(), copyTo("dev", "staging")))
		stop()
		if done.Failed != "" || done.Verb != deploy.Copying || done.From != "staging" || done.Masked == nil || done.Masked.Rows != 7 || s.world.DataOf("shop", "dev") != "masked real" || s.world.DataOf("shop", "staging") != "real" {
			t.Fatalf("it ended %+v; dev has %q, staging %q", done, s.world.DataOf("shop", "dev"), s.world.DataOf("shop", "staging"))
		}
		if !slices.Equal(m.named, s.builder.app.People) {
			t.Errorf("the file's columns were not told: %v", m.named)
		}
		if err := s.Forget(t.Context(), deploy.DataRequest{App: "shop", Stage: "dev", ID: done.Kept}); err != nil {
			t.Error(err)
		}
		s.leaseIsFree()
		s.nothingBeside()
		found, err := s.FindPeople(t.Context(), "shop", "staging")
		if err != nil || len(found.Unjudged()) != 1 || found.Columns[0].Why != "real" || found.Paste() != "people:\n  orders.note: text   # or keep, or what it is: real" {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// What is refused is refused before anything is made, and gives the stage back.
func TestCopyDataRefused(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		m := s.copies(t)
		for _, c := range []struct {
			q    deploy.DataRequest
			want error
			hint string
		}{
			{copyTo("staging", "dev"), deploy.ErrRefused, "lotse db copy staging dev"},
			{copyTo("dev", "dev"), deploy.ErrRefused, ""},
			{copyTo("dev", "stagin"), deploy.ErrNotFound, `did you mean "staging"?`},
			{copyTo("prod", "staging"), deploy.ErrNotFound, ""},
		} {
			if _, err := s.CopyData(t.Context(), c.q); err == nil || c.q.Stage != "prod" && !errors.Is(err, c.want) || !strings.Contains(deploy.HintOf(err), c.hint) {
				t.Errorf("%+v: %v (%s)", c.q, err, deploy.HintOf(err))
			}
		}
		if _, err := s.Restore(t.Context(), deploy.DataRequest{App: "shop", Stage: "staging", ID: "x", To: "dev"}); !errors.Is(err, deploy.ErrRefused) || !strings.Contains(deploy.HintOf(err), "lotse db copy staging dev") {
			t.Errorf("a restore to another stage: %v (%s)", err, deploy.HintOf(err))
		}
		m.fail = deploy.Hint(fmt.Errorf("%w: orders.note", deploy.ErrRefused), "people:")
		done := s.done(s.CopyData(t.Context(), copyTo("dev", "staging")))
		if done.Code != "refused" || done.Hint != "people:" || s.world.DataOf("shop", "dev") != "old" {
			t.Errorf("it ended %+v, and dev has %q", done, s.world.DataOf("shop", "dev"))
		}
		s.leaseIsFree()
		s.nothingBeside()
	})
}

// The controller is killed at every moment of a copy at which it writes or calls an engine, and started again: dev works with the one or the
// other, whole, and the job is over.
func TestCopyDataKilledAnywhere(t *testing.T) {
	count := copyVoyage(t, newPoints(0, false))
	if count.passed < 15 {
		t.Fatalf("there are %d moments", count.passed)
	}
	for _, at := range everyNthOf(t, count.passed, 40) {
		t.Run(fmt.Sprintf("%d %s", at, count.names[at-1]), func(t *testing.T) { copyVoyage(t, newPoints(at, false)) })
	}
}

func copyVoyage(t *testing.T, p *points) *points {
	inSite(t, func(t *testing.T, s *site) {
		s.copies(t)
		s.end()
		synctest.Wait()
		p.board(s)
		s.boot()
		job := ""
		select {
		case <-s.Ready():
			if id, err := s.CopyData(t.Context(), copyTo("dev", "staging")); err == nil {
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
		if job != "" && got != "masked real" || got != "masked real" && got != "old" || s.world.DataOf("shop", "staging") != "real" {
			t.Errorf("dev has %q after copy %q", got, job)
		}
		s.nothingBeside()
		s.leaseIsFree()
	})
	return p
}
