package deploy_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
)

func (s *site) plan(verb deploy.Verb, stage, rev string) deploy.Plan {
	s.t.Helper()
	p, err := s.Plan(s.t.Context(), deploy.PlanRequest{Verb: verb, Deploy: deploy.Request{Dir: "/app", Rev: rev}, Move: deploy.Move{Stage: stage}})
	if err != nil {
		s.t.Fatalf("plan %s: %v", verb, err)
	}
	return p
}

func codes(p deploy.Plan) (all []string) {
	for _, r := range p.Refused {
		all = append(all, r.Code)
	}
	return all
}

// A plan says what the request would say, and changes nothing.
func TestPlan(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.wrote("one: one", "two: a feature", "three: more")
		s.rule("staging", func(st *deploy.Stage) {
			st.Approvals, st.Freeze, st.Strategy = deploy.Consent{People: 1}, deploy.Freeze{From: "2000-01-01", Reason: "release"}, deploy.BlueGreen
			st.Closed = []string{"2000-01-03 - 2000-01-04"}
		})
		s.deploy("one")
		first := s.plan(deploy.Promoted, "staging", "")
		if first.Serves != nil || first.Release != digestOf("one") || !slices.Equal(first.Variables.Added, []string{"KEY", "TOKEN"}) || !slices.Equal(codes(first), []string{"refused"}) {
			t.Errorf("of the first release it is %+v", first)
		}
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		if p := s.plan(deploy.Promoted, "staging", ""); len(p.Refused) > 0 || len(p.Rules) != 3 {
			t.Errorf("with an approval it is %+v, %+v", p.Refused, p.Rules)
		}
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Fatal(err)
		}
		s.rule("staging", func(st *deploy.Stage) {
			st.Gates.Smoke = []deploy.Expectation{{Name: "cart"}}
			st.Gates.PageLoad.Limit = 1500 * time.Millisecond
		})
		s.deploy("three")
		s.secrets["KEY"], s.secrets["NEW"] = "second-value", "first-of-new"
		p := s.plan(deploy.Promoted, "staging", "")
		if len(p.New) != 2 || p.New[0].Subject != "more" || p.New[1].ID != "two" || len(p.Gone) > 0 || p.Serves.Commit != "one" {
			t.Errorf("commits between are %+v and %+v, what is served %+v", p.New, p.Gone, p.Serves)
		}
		if v := p.Variables; !slices.Equal(v.Changed, []string{"KEY"}) || !slices.Equal(v.Added, []string{"NEW"}) || v.Removed != nil || v.Unknown != "" {
			t.Errorf("variables are %+v", v)
		}
		if !slices.Contains(p.Gates, "smoke test cart") || !slices.Contains(p.Gates, "page load within 1.5s") || !strings.HasPrefix(p.Strategy, "blue-green: ") {
			t.Errorf("gates are %v, the strategy %q", p.Gates, p.Strategy)
		}
		if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Message, "is frozen") || !strings.Contains(p.Refused[0].Message, "needs 1 approval") {
			t.Errorf("it is refused by %+v", p.Refused)
		}
		events, err := s.ledger.Events(t.Context(), deploy.EventQuery{Stage: "staging", Kinds: []string{deploy.KindRequested}})
		if err != nil || len(events) != 1 {
			t.Errorf("plans began %d rollouts, %v", len(events)-1, err)
		}
		if strings.Contains(string(events[0].Data), "first-value") {
			t.Error("the ledger has a value")
		}
		delete(s.secrets, "KEY")
		if v := s.plan(deploy.Promoted, "staging", "").Variables; !slices.Equal(v.Removed, []string{"KEY"}) {
			t.Errorf("one taken away is %+v", v)
		}
	})
}

// Of migrations, a plan knows what releases have brought: what is new, and on the way back what stays.
func TestPlanOfMigrations(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.files = map[string][]string{"one": {"db/1.sql"}, "two": {"db/1.sql", "db/2.sql"}, "three": {"db/1.sql", "db/2.sql", "db/3.sql", "db/README"}}
		if d := s.deploy("one"); d.Outcome != deploy.Settled {
			t.Fatal(d.Turned)
		}
		if d := s.plan(deploy.Deployed, "", "three").Database; !slices.Equal(d.Run, []string{"2.sql", "3.sql"}) || d.Stay != nil || !strings.HasPrefix(d.Says, "2 migrations run before") {
			t.Errorf("before it is built: %+v", d)
		}
		s.deploy("two")
		s.world.Behave(digestOf("three"), memory.Behaviour{Cause: "ended with exit code 2"})
		s.deploy("three") // it goes back, and its migrations stay
		if d := s.plan(deploy.RolledBack, "dev", "").Database; d.Run != nil || !slices.Equal(d.Stay, []string{"2.sql", "3.sql"}) || !strings.HasPrefix(d.Says, "nothing is undone: 2 migrations stay") {
			t.Errorf("the way back is %+v", d)
		}
		if d := s.plan(deploy.Redeployed, "dev", "").Database; !slices.Equal(d.Stay, []string{"3.sql"}) {
			t.Errorf("anew is %+v", d)
		}
	})
}

func TestPlanOfWhatCannotBe(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		if _, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: "guess"}); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("an unknown verb is %v", err)
		}
		s.deploy("one")
		_, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.Promoted, Move: deploy.Move{Stage: "qa"}})
		refused(t, "an unknown stage", err, deploy.ErrNotFound, "no stage", "dev, staging, prod")
		id, err := s.Promote(t.Context(), deploy.Move{Stage: "staging", By: bo})
		if err != nil {
			t.Fatal(err)
		}
		if got := codes(s.plan(deploy.Promoted, "staging", "")); !slices.Equal(got, []string{"busy"}) {
			t.Errorf("while another is on its way it is %v", got)
		}
		s.ended(id)
	})
}

// recomputed is the hash of an exported event, as docs/rules.md has it computed.
func recomputed(t *testing.T, e deploy.Link) string {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Seq                                                   int64
		At, Kind, App, Stage, Rollout, Release, Actor, Before string
		Data                                                  json.RawMessage
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	before, err := hex.DecodeString(read.Before)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	sum.Write(before)
	for _, field := range []string{"lotse ledger 1", fmt.Sprint(read.Seq), read.At, read.Kind, read.App, read.Stage, read.Rollout, read.Release, read.Actor, string(read.Data)} {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		sum.Write([]byte(field))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// What had no variables is told from what nobody knows of.
func TestNoVariablesAreKnown(t *testing.T) {
	for _, values := range []deploy.ValueNames{nil, {}} {
		text, err := json.Marshal(deploy.Rollout{Values: values})
		if err != nil {
			t.Fatal(err)
		}
		var r deploy.Rollout
		if err := json.Unmarshal(text, &r); err != nil || (r.Values == nil) != (values == nil) {
			t.Errorf("%#v comes back as %#v, %v", values, r.Values, err)
		}
	}
}

// The record of a rollout has every event of it, each with the hash of the one before, and who had said yes.
func TestRecord(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("dev", func(st *deploy.Stage) { st.SignOff = deploy.Consent{People: 1} })
		s.deploy("one")
		if err := s.approve("dev", deploy.SignsOff, bo, ""); err != nil {
			t.Fatal(err)
		}
		r := s.promote("staging")
		if err := s.approve("dev", deploy.SignsOff, cleo, ""); err != nil { // too late to be of it
			t.Fatal(err)
		}
		record, err := s.Record(t.Context(), r.ID)
		if err != nil || record.Rollout.ID != r.ID || len(record.Approvals) != 1 || record.Approvals[0].Kind != deploy.SignsOff {
			t.Fatalf("it is %+v, %v", record, err)
		}
		all, err := s.ledger.Events(t.Context(), deploy.EventQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range record.Events {
			if e.Rollout != r.ID || e.Before != all[e.Seq-2].Hash || e.Hash != recomputed(t, e) {
				t.Errorf("event %d says it follows %s, and its hash does not", e.Seq, e.Before)
			}
		}
		if len(record.Events) < 10 || record.Events[0].Kind != deploy.KindRequested {
			t.Errorf("it has %d events", len(record.Events))
		}
		if _, err := s.Record(t.Context(), "none"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("an unknown one is %v", err)
		}
	})
}

// A rollout whose controller had lost the stage's lease to somebody is taken up by hand; any other has nobody to take it up.
func TestResume(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		refused(t, "what has ended", s.Resume(t.Context(), one.ID), deploy.ErrRefused, "has ended: settled", "lotse rollout show")
		if err := s.Resume(t.Context(), "none"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("an unknown one is %v", err)
		}
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "what is on its way", s.Resume(t.Context(), id), deploy.ErrBusy, "on its way already", "lotse rollout follow "+id)
		pass(30 * time.Second) // it is being watched, with the traffic
		stage := deploy.StageRef{App: "shop", Stage: "dev"}
		lease, err := s.ledger.Acquire(t.Context(), stage, "somebody", time.Minute, func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second) // by now it has noticed
		if err := s.ledger.Release(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Rollout(t.Context(), id); err != nil || r.Outcome != deploy.Going {
			t.Fatalf("it is %s, %v, and nobody walks it", r.Outcome, err)
		}
		if err := s.Resume(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if r := s.ended(id); r.Outcome != deploy.Settled || s.running()[id] != 100 {
			t.Errorf("it ended as %s: %+v", r.Outcome, r.Turned)
		}
		s.leaseIsFree()
	})
}
