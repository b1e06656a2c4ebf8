package vault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/vault"
)

// ranWith is what a release is given now, and the versions that it would be recorded with.
func ranWith(t testing.TB, v *vault.Vault, stage deploy.Stage) deploy.Settings {
	t.Helper()
	s, err := v.Of(t.Context(), t.TempDir(), "shop", stage)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A release finds the values again that it ran with: changed ones, and ones that were taken away since; what was set since is left out.
func TestEarlierValues(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	stage := deploy.Stage{Name: "dev", Env: map[string]string{"FILE": "yaml", "LOG": "yaml"}}
	set(t, v, dev, deploy.SecretVariable, "KEY", hunter+"-1")
	set(t, v, dev, deploy.PlainVariable, "GOES", "with it")
	set(t, v, dev, deploy.PlainVariable, "KIND", "plain")
	first := ranWith(t, v, stage)
	set(t, v, dev, deploy.SecretVariable, "KEY", hunter+"-2")
	set(t, v, dev, deploy.SecretVariable, "KIND", hunter)
	set(t, v, dev, deploy.PlainVariable, "LOG", "set since")
	if err := v.Remove(t.Context(), dev, deploy.PlainVariable, []string{"GOES"}, nil); err != nil {
		t.Fatal(err)
	}
	again := opened(t, dir)
	then, err := again.Earlier(t.Context(), dir, "shop", stage, first.Versions)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"FILE=yaml", "GOES=with it", "KEY=" + hunter + "-1", "KIND=plain", "LOG=yaml"}, revealed(then.Values)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first.Versions, then.Versions); diff != "" || then.Version != first.Version || !cmp.Equal(first.Digests, then.Digests) || !slices.Equal(then.Secrets, []string{"KEY"}) {
		t.Errorf("it counts as something else: %s, %v", diff, then.Secrets)
	}
	if diff := cmp.Diff([]string{"FILE=yaml", "KEY=" + hunter + "-2", "KIND=" + hunter, "LOG=set since"}, revealed(ranWith(t, again, stage).Values)); diff != "" {
		t.Errorf("today's changed: %s", diff)
	}
	none, err := again.Earlier(t.Context(), dir, "shop", stage, deploy.ValueVersions{})
	if err != nil || len(none.Values) != 2 {
		t.Errorf("%v, %v", revealed(none.Values), err)
	}
}

// What was revoked can be had no more, and the value is not in the file; the version of now cannot be revoked.
func TestRevoke(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	stage := deploy.Stage{Name: "dev"}
	var ran []deploy.ValueVersions
	for n := range 3 {
		set(t, v, dev, deploy.SecretVariable, "KEY", fmt.Sprint(hunter, n))
		ran = append(ran, ranWith(t, v, stage).Versions)
	}
	nothing := func([]int) error { t.Error("recorded"); return nil }
	for _, c := range []struct {
		name   string
		number int
		want   error
	}{{"KEY", 3, deploy.ErrRefused}, {"KEY", 9, deploy.ErrNotFound}, {"NONE", 1, deploy.ErrNotFound}} {
		if _, err := v.Revoke(t.Context(), dev, c.name, []int{c.number}, nothing); !errors.Is(err, c.want) || deploy.HintOf(err) == "" {
			t.Errorf("%v: %v", c, err)
		}
	}
	var told []int
	revoked, err := v.Revoke(t.Context(), dev, "KEY", []int{1}, func(n []int) error { told = n; return nil })
	if err != nil || !slices.Equal(revoked, []int{1}) || !slices.Equal(told, revoked) {
		t.Errorf("%v, %v, %v", revoked, told, err)
	}
	_, err = opened(t, dir).Earlier(t.Context(), dir, "shop", stage, ran[0])
	gone, is := errors.AsType[*deploy.VersionsError](err)
	if !is || !errors.Is(err, deploy.ErrRefused) || !slices.Equal(gone.Gone, []deploy.GoneVersion{{Name: "KEY", Why: "revoked"}}) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("%v", err)
	}
	if then, err := v.Earlier(t.Context(), dir, "shop", stage, ran[1]); err != nil || value(then, "KEY") != hunter+"1" {
		t.Errorf("another version: %v", err)
	}
	if plain := unsealed(t, dir, dev); strings.Contains(plain, hunter+"0") || !strings.Contains(plain, hunter+"1") {
		t.Error("a value that was revoked is kept, or another is gone")
	}
	if all, err := v.Revoke(t.Context(), dev, "KEY", nil, func([]int) error { return nil }); err != nil || !slices.Equal(all, []int{2}) {
		t.Errorf("all but that of now: %v, %v", all, err)
	}
	list, err := v.Versions(t.Context(), dev, "KEY")
	want := []deploy.VariableVersion{{Number: 3, Since: noon, By: "p-anna", Now: true}, {Number: 2, Since: noon, By: "p-anna", Gone: "revoked"}, {Number: 1, Since: noon, By: "p-anna", Gone: "revoked"}}
	if diff := cmp.Diff(want, list); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func unsealed(t testing.TB, dir string, stage deploy.StageRef) string {
	t.Helper()
	r, err := age.Decrypt(strings.NewReader(contents(t, filepath.Join(dir, "vault", stage.App, stage.Stage+".age"))), machineKeys(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return plain.String()
}

// Ten versions are kept, and those that a release needs; what is needed longest goes last where room ends, and no number is used twice.
func TestHowManyVersions(t *testing.T) {
	dir := t.TempDir()
	var needed []deploy.ValueVersions
	v := opened(t, dir).Keeping(func(context.Context, deploy.StageRef) ([]deploy.ValueVersions, error) { return needed, nil })
	stage := deploy.Stage{Name: "dev"}
	for n := range 30 {
		set(t, v, dev, deploy.SecretVariable, "KEY", fmt.Sprint("value ", n))
		if n == 4 {
			needed = append(needed, ranWith(t, v, stage).Versions)
		}
	}
	list, err := v.Versions(t.Context(), dev, "KEY")
	if err != nil || len(list) != 11 || list[0].Number != 30 || list[9].Number != 21 || list[10].Number != 5 {
		t.Errorf("%+v, %v", list, err)
	}
	set(t, v, dev, deploy.SecretVariable, "KEY", "value 29")
	if list, _ := v.Versions(t.Context(), dev, "KEY"); list[0].Number != 30 {
		t.Error("the same value again is another version")
	}
	for n := range 10 { // more than a stage may have, were all kept
		set(t, v, dev, deploy.PlainVariable, "LARGE", fmt.Sprint(n)+strings.Repeat("x", deploy.MaxVariable-2))
		set(t, v, dev, deploy.PlainVariable, "OTHER", fmt.Sprint(n)+strings.Repeat("y", deploy.MaxVariable-2))
	}
	if then, err := v.Earlier(t.Context(), dir, "shop", stage, needed[0]); err != nil || value(then, "KEY") != "value 4" {
		t.Errorf("what a release needs was dropped before what none needs: %v", err)
	}
	if err := v.Remove(t.Context(), dev, deploy.SecretVariable, []string{"KEY"}, nil); err != nil {
		t.Fatal(err)
	}
	set(t, v, dev, deploy.SecretVariable, "KEY", "anew")
	if list, _ := v.Versions(t.Context(), dev, "KEY"); list[0].Number != 31 {
		t.Errorf("a number is used again: %+v", list[0])
	}
}

// Where a copy of the file is put back, the next change is not taken for the one that had its number.
func TestVersionsAfterACopyWasPutBack(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	stage, file := deploy.Stage{Name: "dev"}, filepath.Join(dir, "vault", "shop", "dev.age")
	set(t, v, dev, deploy.SecretVariable, "KEY", "one")
	copied := contents(t, file)
	set(t, v, dev, deploy.SecretVariable, "KEY", "two")
	ran := ranWith(t, v, stage).Versions
	put(t, file, copied)
	set(t, v, dev, deploy.SecretVariable, "KEY", "another two")
	if then, err := v.Earlier(t.Context(), dir, "shop", stage, ran); !errors.Is(err, deploy.ErrRefused) {
		t.Errorf("%v, %v", revealed(then.Values), err)
	}
}

// For as long as lotse.yaml says, instances get the value before beside a new one; then it is gone, and so it is when it was revoked.
func TestOverlap(t *testing.T) {
	dir, now := t.TempDir(), noon
	v, err := vault.Open(filepath.Join(dir, "vault"), filepath.Join(dir, "versions"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	stage := deploy.Stage{Name: "dev", Overlap: map[string]time.Duration{"KEY": 24 * time.Hour}}
	gets := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, revealed(ranWith(t, v, stage).Values)); diff != "" {
			t.Error(diff)
		}
	}
	set(t, v, dev, deploy.SecretVariable, "KEY", "one")
	gets("KEY=one")
	now = now.Add(48 * time.Hour)
	set(t, v, dev, deploy.SecretVariable, "KEY", "two")
	during := ranWith(t, v, stage)
	gets("KEY=two", "KEY_PREVIOUS=one")
	if !slices.Contains(during.Secrets, "KEY_PREVIOUS") {
		t.Error("the value before is no secret")
	}
	now = now.Add(23 * time.Hour)
	gets("KEY=two", "KEY_PREVIOUS=one")
	now = now.Add(2 * time.Hour)
	gets("KEY=two")
	if after := ranWith(t, v, stage); after.Version == during.Version {
		t.Error("the end of the overlap is no change")
	}
	if then, err := v.Earlier(t.Context(), dir, "shop", stage, during.Versions); err != nil || !slices.Equal(revealed(then.Values), []string{"KEY=two", "KEY_PREVIOUS=one"}) {
		t.Errorf("%v, %v", revealed(then.Values), err)
	}
	set(t, v, dev, deploy.SecretVariable, "KEY", "three")
	gets("KEY=three", "KEY_PREVIOUS=two")
	if _, err := v.Revoke(t.Context(), dev, "KEY", []int{2}, func([]int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	gets("KEY=three", "KEY_PREVIOUS=one")
	if _, err := v.Revoke(t.Context(), dev, "KEY", nil, func([]int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	gets("KEY=three")
}

func TestGetAndCompare(t *testing.T) {
	_, v := twoStages(t)
	set(t, v, dev, deploy.SecretVariable, "B", "other")
	set(t, v, dev, deploy.PlainVariable, "LOG", "debug")
	var told []string
	record := func(names []string) error { told = append(told, names...); return nil }
	got, err := v.Get(t.Context(), dev, deploy.SecretVariable, []string{"A"}, record)
	if err != nil || !slices.Equal(revealed(got), []string{"A=" + hunter + "-dev"}) || !slices.Equal(told, []string{"A"}) {
		t.Errorf("%v, %v, %v", revealed(got), told, err)
	}
	if all, err := v.Get(t.Context(), dev, deploy.SecretVariable, nil, record); err != nil || len(all) != 2 || len(told) != 3 {
		t.Errorf("%v, %v, %v", all, told, err)
	}
	if _, err := v.Get(t.Context(), dev, deploy.SecretVariable, []string{"LOG"}, record); !errors.Is(err, deploy.ErrNotFound) || len(told) != 3 {
		t.Errorf("%v", err)
	}
	if got, err := v.Get(t.Context(), dev, deploy.SecretVariable, []string{"A"}, func([]string) error { return deploy.ErrNoSpace }); !errors.Is(err, deploy.ErrNoSpace) {
		t.Errorf("what is not recorded is shown: %v, %v", got, err)
	}
	changes, err := v.Compare(t.Context(), dev, deploy.SecretVariable, slices.Concat(one("B", "other"), one("A", "x"), one("C", "x")))
	if diff := cmp.Diff([]deploy.VariableChange{{Name: "B", Is: "same"}, {Name: "A", Is: "changed"}, {Name: "C", Is: "new"}}, changes); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// Change sets and takes away at once, or does neither.
func TestChange(t *testing.T) {
	_, v := twoStages(t)
	if err := v.Change(t.Context(), dev, deploy.SecretVariable, one("B", "x"), []string{"NONE"}, "p", nil); !errors.Is(err, deploy.ErrNotFound) || len(given(t, v, dev)) != 1 {
		t.Errorf("%v: %v", err, given(t, v, dev))
	}
	if err := v.Change(t.Context(), dev, deploy.SecretVariable, one("B", "x"), []string{"A"}, "p", nil); err != nil || !slices.Equal(given(t, v, dev), []string{"B=x"}) {
		t.Errorf("%v: %v", err, given(t, v, dev))
	}
}

// A file of the format before is read, and one of a newer format is refused and stays as it is.
func TestFormats(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, prod, deploy.SecretVariable, "X", "makes a key")
	seal := func(text string) {
		t.Helper()
		var sealed bytes.Buffer
		w, err := age.Encrypt(&sealed, machineKeys(t, dir)[0].Recipient())
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "vault", "shop", "dev.age"), sealed.String())
	}
	seal(`{"format":1,"app":"shop","stage":"dev","password":"abcde-fghjk","variables":[{"name":"KEY","kind":"secret","value":"` + hunter + `","since":"2026-11-05T12:00:00Z","by":"p-1"}]}`)
	if diff := cmp.Diff([]string{"KEY=" + hunter}, given(t, v, dev)); diff != "" {
		t.Error(diff)
	}
	ran := ranWith(t, v, deploy.Stage{Name: "dev"}).Versions
	set(t, v, dev, deploy.SecretVariable, "KEY", "changed")
	if then, err := v.Earlier(t.Context(), dir, "shop", deploy.Stage{Name: "dev"}, ran); err != nil || value(then, "KEY") != hunter {
		t.Errorf("%v", err)
	}
	if p, err := v.Password(t.Context(), dev); err != nil || p.Reveal() != "abcde-fghjk" {
		t.Errorf("the password is another: %v", err)
	}
	var is struct{ Format int }
	if err := json.Unmarshal([]byte(unsealed(t, dir, dev)), &is); err != nil || is.Format != 2 {
		t.Errorf("%+v, %v", is, err)
	}
	seal(`{"format":3,"app":"shop","stage":"dev"}`)
	before := snapshot(t, dir)
	if err := v.Set(t.Context(), dev, deploy.SecretVariable, one("A", "x"), "p", nil); !errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// Where secrets rest with the platform, versions and their going back are the same, under references that the platform can read. Both are fakes: moto forgets the labels
// of a version when AWSCURRENT leaves it, which AWS does not.
func TestVersionsAway(t *testing.T) {
	world := awsfake.Open(t, awsfake.Options{})
	for name, remotes := range map[string]vault.Remotes{"in memory": &memory{}, "our fake": vault.SecretsManager{Config: func(_ context.Context, region string) (aws.Config, error) { return world.Config(region), nil }}} {
		t.Run(name, func(t *testing.T) { versionsAway(t, remotes) })
	}
}

func versionsAway(t *testing.T, remotes vault.Remotes) {
	dir := t.TempDir()
	v := opened(t, dir).With(remotes)
	stage := onAWS
	stage.Private, stage.Overlap = false, map[string]time.Duration{"KEY": time.Since(noon).Abs() + 1000*time.Hour}
	if err := v.Settle(t.Context(), prod, stage.Home()); err != nil {
		t.Fatal(err)
	}
	var ran []deploy.Settings
	for n := range 3 {
		set(t, v, prod, deploy.SecretVariable, "KEY", fmt.Sprint(hunter, n))
		ran = append(ran, ranWith(t, v, stage))
	}
	if value(ran[0], "KEY_PREVIOUS") != "" || value(ran[2], "KEY_PREVIOUS") != hunter+"1" {
		t.Errorf("overlapping: %v", ran[2].Versions)
	}
	then, err := v.Earlier(t.Context(), dir, "shop", stage, ran[0].Versions)
	if err != nil || value(then, "KEY") != hunter+"0" || len(then.Values) != 1 {
		t.Fatalf("%v, %v", then.Versions, err)
	}
	if then.Values[0].Reference == "" || then.Values[0].Reference == ran[2].Values[0].Reference || then.Version != ran[0].Version {
		t.Errorf("it is read by %q", then.Values[0].Reference)
	}
	list, err := v.Versions(t.Context(), prod, "KEY")
	if err != nil || len(list) != 3 || list[0].Number != 3 || !list[0].Now || list[2].Number != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if all, err := v.List(t.Context(), prod); err != nil || len(all) != 1 {
		t.Errorf("what is kept for going back is listed: %+v, %v", all, err)
	}
	revoked, err := v.Revoke(t.Context(), prod, "KEY", nil, func([]int) error { return nil })
	if err != nil || !slices.Equal(revoked, []int{1, 2}) {
		t.Errorf("%v, %v", revoked, err)
	}
	if _, err := v.Earlier(t.Context(), dir, "shop", stage, ran[0].Versions); !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "KEY that it ran with is revoked") {
		t.Errorf("%v", err)
	}
	if now := ranWith(t, v, stage); value(now, "KEY") != hunter+"2" || len(now.Values) != 1 {
		t.Errorf("%v", now.Versions)
	}
	for n := range 14 {
		set(t, v, prod, deploy.SecretVariable, "KEY", fmt.Sprint(hunter, "more", n))
	}
	if _, err := v.Earlier(t.Context(), dir, "shop", deploy.Stage{Name: "prod", Engine: "aws", AWS: stage.AWS}, deploy.ValueVersions{"KEY": "nonsense"}); !errors.Is(err, deploy.ErrRefused) {
		t.Errorf("%v", err)
	}
}
