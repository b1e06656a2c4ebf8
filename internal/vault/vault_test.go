package vault_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/vault"
)

var (
	dev  = deploy.StageRef{App: "shop", Stage: "dev"}
	prod = deploy.StageRef{App: "shop", Stage: "prod"}
	noon = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
)

const hunter = "hunter2-correct-horse-battery"

// TestMain is also the writer that tests end in the middle of its work.
func TestMain(m *testing.M) {
	if dir := os.Getenv("VAULT_WRITER"); dir != "" {
		write := writer(dir, os.Getenv("VAULT_NAME"))
		os.Exit(write())
	}
	os.Exit(m.Run())
}

// writer counts up in one variable for ever, and says each number when it is kept.
func writer(dir, name string) func() int {
	return func() int {
		v, err := vault.Open(filepath.Join(dir, "vault"), filepath.Join(dir, "versions"), time.Now)
		for n := 1; err == nil; n++ {
			if err = v.Set(context.Background(), dev, deploy.SecretVariable, one(name, strconv.Itoa(n)), "p-1", nil); err == nil {
				fmt.Println(n)
			}
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

func one(name, value string) []deploy.Setting {
	return []deploy.Setting{{Name: name, Value: secret.New(value)}}
}

func opened(t testing.TB, dir string) *vault.Vault {
	t.Helper()
	v, err := vault.Open(filepath.Join(dir, "vault"), filepath.Join(dir, "versions"), func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func set(t testing.TB, v *vault.Vault, stage deploy.StageRef, kind deploy.VariableKind, name, value string) {
	t.Helper()
	if err := v.Set(t.Context(), stage, kind, one(name, value), "p-anna", nil); err != nil {
		t.Fatal(err)
	}
}

// given is what the instances of a stage get, as NAME=value.
func given(t testing.TB, v *vault.Vault, stage deploy.StageRef) []string {
	t.Helper()
	s, err := v.Of(t.Context(), t.TempDir(), stage.App, deploy.Stage{Name: stage.Stage})
	if err != nil {
		t.Fatal(err)
	}
	return revealed(s.Values)
}

// What was set is there for who opens the vault next, for its stage alone, and listed without what is secret.
func TestKeeping(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "STRIPE_KEY", hunter)
	set(t, v, dev, deploy.PlainVariable, "LOG", "debug")
	set(t, v, prod, deploy.SecretVariable, "STRIPE_KEY", "another one")
	again := opened(t, dir)
	if diff := cmp.Diff([]string{"LOG=debug", "STRIPE_KEY=" + hunter}, given(t, again, dev)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"STRIPE_KEY=another one"}, given(t, again, prod)); diff != "" {
		t.Error(diff)
	}
	if got := given(t, again, deploy.StageRef{App: "other", Stage: "dev"}); got != nil {
		t.Errorf("another app has %v", got)
	}
	list, err := again.List(t.Context(), dev)
	want := []deploy.Variable{{Name: "LOG", Kind: deploy.PlainVariable, Since: noon, By: "p-anna", Version: 1}, {Name: "STRIPE_KEY", Kind: deploy.SecretVariable, Since: noon, By: "p-anna", Version: 1}}
	if err != nil || len(list) != 2 || list[0].Value.Reveal() != "debug" || !list[1].Value.Empty() {
		t.Fatalf("%+v, %v", list, err)
	}
	list[0].Value, want[0].Value = secret.Text{}, secret.Text{}
	if list[0] != want[0] || list[1] != want[1] {
		t.Errorf("%+v", list)
	}
}

// A name has one kind: env becomes a secret, a secret does not become env without being taken away.
func TestKinds(t *testing.T) {
	v := opened(t, t.TempDir())
	set(t, v, dev, deploy.PlainVariable, "KEY", "plain")
	set(t, v, dev, deploy.SecretVariable, "KEY", hunter)
	err := v.Set(t.Context(), dev, deploy.PlainVariable, append(one("OTHER", "x"), one("KEY", "shown")...), "p-1", nil)
	if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(deploy.HintOf(err), "lotse secrets rm --stage dev KEY") {
		t.Errorf("%v, hint %q", err, deploy.HintOf(err))
	}
	if diff := cmp.Diff([]string{"KEY=" + hunter}, given(t, v, dev)); diff != "" {
		t.Errorf("a refused set has set a part: %s", diff)
	}
}

func TestRemoving(t *testing.T) {
	v := opened(t, t.TempDir())
	set(t, v, dev, deploy.SecretVariable, "STRIPE_KEY", hunter)
	set(t, v, dev, deploy.SecretVariable, "SLACK_WEBHOOK", hunter)
	set(t, v, dev, deploy.PlainVariable, "LOG", "debug")
	for _, c := range []struct {
		kind        deploy.VariableKind
		names, hint string
	}{
		{deploy.SecretVariable, "STRIP_KEY", "did you mean STRIPE_KEY? there are: SLACK_WEBHOOK, STRIPE_KEY"},
		{deploy.SecretVariable, "LOG", "`lotse env rm --stage dev LOG`"},
		{deploy.PlainVariable, "STRIPE_KEY", "`lotse secrets rm --stage dev STRIPE_KEY`"},
		{deploy.SecretVariable, "STRIPE_KEY NONE", "there are: SLACK_WEBHOOK"},
	} {
		err := v.Remove(t.Context(), dev, c.kind, strings.Fields(c.names), nil)
		if !errors.Is(err, deploy.ErrNotFound) || deploy.HintOf(err) != c.hint {
			t.Errorf("%s: %v, hint %q", c.names, err, deploy.HintOf(err))
		}
	}
	if err := v.Remove(t.Context(), prod, deploy.SecretVariable, []string{"sk-live"}, nil); err == nil || strings.Contains(err.Error(), "sk-live") {
		t.Errorf("what is no name, and may be a secret, is shown: %v", err)
	}
	if len(given(t, v, dev)) != 3 {
		t.Errorf("a refused removal has removed: %v", given(t, v, dev))
	}
	if err := v.Remove(t.Context(), dev, deploy.SecretVariable, []string{"STRIPE_KEY", "SLACK_WEBHOOK"}, nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"LOG=debug"}, given(t, v, dev)); diff != "" {
		t.Error(diff)
	}
}

// What cannot be a variable, or a stage, is refused before anything is kept, and no value is in the error.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	for _, c := range []struct{ stage, name, value string }{
		{"shop/dev", "PORT", hunter}, {"shop/dev", "LOTSE_X", hunter}, {"shop/dev", hunter, "x"}, {"shop/dev", "", hunter},
		{"shop/dev", "A", hunter + "\x00"}, {"shop/dev", "A", hunter + "\xff"}, {"shop/dev", "A", strings.Repeat(hunter, 5000)},
		{"../dev", "A", hunter}, {"shop/..", "A", hunter}, {"shop/a/b", "A", hunter}, {"shop/", "A", hunter}, {"Shop/dev", "A", hunter},
	} {
		app, stage, _ := strings.Cut(c.stage, "/")
		err := v.Set(t.Context(), deploy.StageRef{App: app, Stage: stage}, deploy.SecretVariable, one(c.name, c.value), "p-1", nil)
		if !errors.Is(err, deploy.ErrBadInput) || strings.Contains(err.Error()+deploy.HintOf(err), "hunter") {
			t.Errorf("%.60q: %v", c, err)
		}
	}
	if err := v.Set(t.Context(), dev, "other", one("A", hunter), "p-1", nil); !errors.Is(err, deploy.ErrBadInput) {
		t.Error(err)
	}
	for n := range 20 { // each is fine, and all together are too much
		if err := v.Set(t.Context(), dev, deploy.PlainVariable, one(fmt.Sprintf("A%d", n), strings.Repeat("x", deploy.MaxVariable)), "p-1", nil); err != nil {
			if !errors.Is(err, deploy.ErrBadInput) || n < 10 || len(given(t, v, dev)) != n {
				t.Errorf("%d: %v", n, err)
			}
			return
		}
	}
	t.Error("a stage may have any amount")
}

// The state folder holds no value in any form, nobody else may read in it, and neither the values nor the password show in what is printed.
func TestSealed(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "STRIPE_KEY", hunter)
	set(t, v, dev, deploy.PlainVariable, "LOG", "hunter-plain")
	password, err := v.Password(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	key := contents(t, filepath.Join(dir, "vault", "age.key"))
	for _, value := range []string{hunter, "hunter", "STRIPE_KEY", password.Reveal()} {
		for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value))[:len(value)*4/3-2], hex.EncodeToString([]byte(value))} {
			walk(t, dir, func(path string, info fs.FileInfo) {
				if strings.Contains(contents(t, path), form) {
					t.Errorf("%s holds %q", path, form)
				}
			})
		}
	}
	files := 0
	walk(t, filepath.Join(dir, "vault"), func(path string, info fs.FileInfo) {
		files++
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if strings.Contains(contents(t, path), strings.Fields(key)[len(strings.Fields(key))-1]) != (filepath.Base(path) == "age.key") {
			t.Errorf("%s holds the key, or the key does not", path)
		}
	})
	if files != 3 { // key, lock, shop/dev.age
		t.Errorf("%d files", files)
	}
	s, err := v.Of(t.Context(), dir, "shop", deploy.Stage{Name: "dev", Private: true})
	if err != nil || s.Password.Reveal() != password.Reveal() {
		t.Errorf("%v: the stage has another password", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, "hunter") || strings.Contains(text, password.Reveal()) {
		t.Error("printing settings shows values")
	}
}

func walk(t testing.TB, dir string, each func(string, fs.FileInfo)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		each(path, info)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func contents(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The record is written before the change counts, and a change that cannot be recorded does not happen.
func TestRecord(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "A", "before")
	no := errors.New("the ledger is full")
	refuse := func() error {
		if diff := cmp.Diff([]string{"A=before"}, given(t, v, dev)); diff != "" {
			t.Errorf("it counts before it is recorded: %s", diff)
		}
		return no
	}
	_, password := v.NewPassword(t.Context(), dev, refuse)
	for verb, err := range map[string]error{
		"set":      v.Set(t.Context(), dev, deploy.SecretVariable, one("A", "after"), "p-1", refuse),
		"remove":   v.Remove(t.Context(), dev, deploy.SecretVariable, []string{"A"}, refuse),
		"password": password,
	} {
		if !errors.Is(err, no) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if diff := cmp.Diff([]string{"A=before"}, given(t, v, dev)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "vault", "shop", "dev.age.new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left aside: %v", err)
	}
	called := 0
	if err := v.Remove(t.Context(), dev, deploy.SecretVariable, []string{"NONE"}, func() error { called++; return nil }); err == nil || called != 0 {
		t.Errorf("%v: what was refused was recorded %d times", err, called)
	}
}

// Somebody who holds the lock and does not go on is not waited for longer than the caller wants.
func TestLockIsNotForEver(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "A", "x")
	f, err := os.Open(filepath.Join(dir, "vault", "write.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := v.Set(ctx, dev, deploy.SecretVariable, one("A", "y"), "p-1", nil); !errors.Is(err, deploy.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if got := given(t, v, dev); got[0] != "A=x" {
		t.Errorf("readers wait, or it was changed: %v", got)
	}
}

// Passwords are readable, of their own for each stage, and stay until a new one is wanted.
func TestPasswords(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	form := regexp.MustCompile(`^[a-hjkmnp-z2-9]{5}(-[a-hjkmnp-z2-9]{5}){3}$`)
	seen, used := map[string]bool{}, map[rune]bool{}
	for i := range 40 {
		p, err := v.Password(t.Context(), deploy.StageRef{App: "shop", Stage: fmt.Sprint("s", i)})
		if err != nil || !form.MatchString(p.Reveal()) || seen[p.Reveal()] {
			t.Fatalf("%d: %v, %v", i, form.MatchString(p.Reveal()), err)
		}
		seen[p.Reveal()] = true
		for _, r := range p.Reveal() {
			used[r] = true
		}
	}
	if len(used) != 32 { // 31 letters and the hyphen; the chance to miss one among 800 is one in ten thousand million
		t.Errorf("%d letters are used", len(used))
	}
	first, err := v.Password(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := opened(t, dir).Password(t.Context(), dev); err != nil || same.Reveal() != first.Reveal() {
		t.Errorf("it does not stay: %v", err)
	}
	anew, err := v.NewPassword(t.Context(), dev, nil)
	if err != nil || anew.Reveal() == first.Reveal() {
		t.Errorf("it is the same, %v", err)
	}
	if now, err := v.Password(t.Context(), dev); err != nil || now.Reveal() != anew.Reveal() {
		t.Errorf("the new one does not count: %v", err)
	}
	open, err := v.Of(t.Context(), dir, "shop", deploy.Stage{Name: "open"})
	if err != nil || !open.Password.Empty() {
		t.Errorf("an open stage has a password, or %v", err)
	}
}
