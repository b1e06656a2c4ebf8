package vault_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/vault"
)

func aKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sshKey is a pair of ssh: what opens, and the line of a .pub file.
func sshKey(t testing.TB) (age.Identity, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := agessh.ParseIdentity(pem.EncodeToMemory(block))
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return identity, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))) + " bo@example.org"
}

// opens reports whether a key opens the file of a stage, without Lotse.
func opens(t testing.TB, dir string, stage deploy.StageRef, key age.Identity) bool {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader([]byte(contents(t, filepath.Join(dir, "vault", stage.App, stage.Stage+".age")))), key)
	if err != nil {
		return false
	}
	plain, err := io.ReadAll(r)
	return err == nil && strings.Contains(string(plain), hunter)
}

// twoStages is a vault with two stages.
func twoStages(t testing.TB) (string, *vault.Vault) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "A", hunter+"-dev")
	set(t, v, prod, deploy.SecretVariable, "A", hunter+"-prod")
	return dir, v
}

func recipientsOf(t testing.TB, v *vault.Vault) (names []string) {
	t.Helper()
	all, err := v.Recipients(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}

// Who is a recipient opens every stage's file, with age alone; who was taken out opens none that is written from then on.
func TestRecipients(t *testing.T) {
	dir, v := twoStages(t)
	anna := aKey(t)
	bo, line := sshKey(t)
	if opens(t, dir, dev, anna) {
		t.Fatal("anybody opens it")
	}
	if err := v.AddRecipient(t.Context(), "anna", anna.Recipient().String(), nil); err != nil {
		t.Fatal(err)
	}
	if err := v.AddRecipient(t.Context(), "bo", line, nil); err != nil {
		t.Fatal(err)
	}
	set(t, v, dev, deploy.SecretVariable, "B", hunter)
	for _, stage := range []deploy.StageRef{dev, prod} {
		if !opens(t, dir, stage, anna) || !opens(t, dir, stage, bo) {
			t.Errorf("%s: a recipient does not open it", stage)
		}
	}
	if diff := cmp.Diff([]string{"this-machine", "anna", "bo"}, recipientsOf(t, opened(t, dir))); diff != "" {
		t.Error(diff)
	}
	if text := contents(t, filepath.Join(dir, "vault", "recipients")); strings.Contains(text, "example.org") {
		t.Errorf("the comment of a key is kept: %s", text)
	}
	if err := v.RemoveRecipient(t.Context(), "anna", nil); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []deploy.StageRef{dev, prod} {
		if opens(t, dir, stage, anna) || !opens(t, dir, stage, bo) {
			t.Errorf("%s is not sealed anew without the one who left", stage)
		}
	}
	if got := given(t, opened(t, dir), dev); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestWrongRecipients(t *testing.T) {
	dir, v := twoStages(t)
	anna := aKey(t)
	if err := v.AddRecipient(t.Context(), "anna", anna.Recipient().String(), nil); err != nil {
		t.Fatal(err)
	}
	own, err := v.Recipients(t.Context())
	if err != nil || !own[0].Own {
		t.Fatal(own, err)
	}
	before := snapshot(t, dir)
	for _, c := range []struct{ name, key, says string }{
		{"bo", "", "no public key"}, {"bo", "age1nonsense", "no public key"}, {"bo", "ssh-ed25519", "no public key"}, {"bo", "ssh-ed25519 AAAA", "no public key"},
		{"bo", aKey(t).String(), "that is a private key"}, {"bo", "-----BEGIN OPENSSH PRIVATE KEY-----", "that is a private key"},
		{"Bo Example", aKey(t).Recipient().String(), "needs a name"}, {"", aKey(t).Recipient().String(), "needs a name"}, {"this-machine", aKey(t).Recipient().String(), "needs a name"},
		{"anna", aKey(t).Recipient().String(), "is a recipient already"}, {"again", anna.Recipient().String(), "is a recipient already"}, {"me", own[0].Key, "key of this machine"},
		{"pq", "age1pq1xyz", "no public key"},
	} {
		err := v.AddRecipient(t.Context(), c.name, c.key, func() error { t.Error("recorded"); return nil })
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), c.says) || len(c.key) > 15 && strings.Contains(err.Error()+deploy.HintOf(err), c.key) {
			t.Errorf("%s %.12s: %v", c.name, c.key, err)
		}
	}
	if err := v.RemoveRecipient(t.Context(), "ana", nil); !errors.Is(err, deploy.ErrNotFound) || !strings.Contains(deploy.HintOf(err), "did you mean anna?") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("what was refused has changed something: %s", diff)
	}
	put(t, filepath.Join(dir, "vault", "recipients"), "anna nonsense\n")
	if err := v.Set(t.Context(), dev, deploy.SecretVariable, one("B", "x"), "p", nil); !errors.Is(err, deploy.ErrDamaged) {
		t.Errorf("a damaged list is passed over: %v", err)
	}
}

// A new key of the machine: everything is sealed for it, and the old one opens nothing and is gone.
func TestRotateKey(t *testing.T) {
	dir, v := twoStages(t)
	old := machineKeys(t, dir)
	if len(old) != 1 {
		t.Fatal(len(old))
	}
	if err := v.RotateKey(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	now := machineKeys(t, dir)
	if len(now) != 1 || now[0].String() == old[0].String() {
		t.Fatalf("%d keys", len(now))
	}
	for _, stage := range []deploy.StageRef{dev, prod} {
		if opens(t, dir, stage, old[0]) || !opens(t, dir, stage, now[0]) {
			t.Errorf("%s is not sealed for the new key alone", stage)
		}
	}
	if got := given(t, opened(t, dir), dev); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func machineKeys(t testing.TB, dir string) (keys []*age.X25519Identity) {
	t.Helper()
	for line := range strings.Lines(contents(t, filepath.Join(dir, "vault", "age.key"))) {
		if k, err := age.ParseX25519Identity(strings.TrimSpace(line)); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// Ended at any moment before or after a file is changed, everything can be opened, and the next command ends what was begun.
func TestKilledWhileSealingAnew(t *testing.T) {
	anna := aKey(t)
	for name, c := range map[string]struct {
		change func(*vault.Vault) error
		done   func(dir string) bool // of all files, where it was begun
	}{
		"add": {func(v *vault.Vault) error {
			return v.AddRecipient(t.Context(), "anna", anna.Recipient().String(), nil)
		}, func(dir string) bool { return opens(t, dir, dev, anna) && opens(t, dir, prod, anna) }},
		"rotate": {func(v *vault.Vault) error { return v.RotateKey(t.Context(), nil) },
			func(dir string) bool {
				keys := machineKeys(t, dir)
				return len(keys) == 1 && opens(t, dir, dev, keys[0]) && opens(t, dir, prod, keys[0])
			}},
	} {
		dir, v := twoStages(t)
		whole, passed := v.Killed(0)
		if err := c.change(whole); err != nil || *passed < 8 || !c.done(dir) {
			t.Fatalf("%s: %v, %d moments", name, err, *passed)
		}
		for at := 1; at <= *passed; at++ {
			dir, v := twoStages(t)
			key := machineKeys(t, dir)[0]
			dying, _ := v.Killed(at)
			if err := c.change(dying); !errors.Is(err, vault.ErrKilled) {
				t.Errorf("%s, killed at %d: %v", name, at, err)
			}
			after := opened(t, dir)
			if dev, prod := given(t, after, dev), given(t, after, prod); len(dev) != 1 || len(prod) != 1 {
				t.Errorf("%s, killed at %d: %v, %v", name, at, dev, prod)
			}
			begun := len(recipientsOf(t, after)) == 2 || len(machineKeys(t, dir)) == 2 || machineKeys(t, dir)[0].String() != key.String()
			set(t, after, deploy.StageRef{App: "other", Stage: "dev"}, deploy.SecretVariable, "B", "x") // any command
			if _, err := os.Stat(filepath.Join(dir, "vault", "reseal")); err == nil || begun && !c.done(dir) || len(machineKeys(t, dir)) != 1 {
				t.Errorf("%s, killed at %d: the next command does not end it (begun %v)", name, at, begun)
			}
			if got := given(t, opened(t, dir), prod); len(got) != 1 || got[0] != "A="+hunter+"-prod" {
				t.Errorf("%s, killed at %d: then %v", name, at, got)
			}
		}
	}
}

// A file that cannot be opened keeps the old key, so that a good copy of it can still be put back; the others go on.
func TestRotateKeyBesideADamagedFile(t *testing.T) {
	dir, v := twoStages(t)
	file := filepath.Join(dir, "vault", "shop", "prod.age")
	good := contents(t, file)
	if err := flip(file); err != nil {
		t.Fatal(err)
	}
	if err := v.RotateKey(t.Context(), nil); !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), "shop/prod") {
		t.Errorf("%v", err)
	}
	if got := given(t, opened(t, dir), dev); len(got) != 1 || len(machineKeys(t, dir)) != 2 {
		t.Errorf("%v, %d keys", got, len(machineKeys(t, dir)))
	}
	if err := v.RotateKey(t.Context(), nil); !errors.Is(err, deploy.ErrDamaged) || len(machineKeys(t, dir)) != 2 {
		t.Errorf("%v, %d keys", err, len(machineKeys(t, dir)))
	}
	put(t, file, good)
	set(t, v, dev, deploy.SecretVariable, "B", "x")
	if got := given(t, opened(t, dir), prod); len(got) != 1 || len(machineKeys(t, dir)) != 1 {
		t.Errorf("%v, %d keys", got, len(machineKeys(t, dir)))
	}
}

// Whoever reads while the key changes finds everything, and writers at once lose nothing.
func TestRotateKeyWhileOthersWork(t *testing.T) {
	dir, _ := twoStages(t)
	var all sync.WaitGroup
	for w := range 3 {
		v := opened(t, dir)
		all.Go(func() {
			for n := range 4 {
				var err error
				switch w {
				case 0:
					err = v.RotateKey(t.Context(), nil)
				case 1:
					err = v.AddRecipient(t.Context(), fmt.Sprint("r", n), aKey(t).Recipient().String(), nil)
				default:
					err = v.Set(t.Context(), dev, deploy.SecretVariable, one(fmt.Sprint("N", n), "x"), "p", nil)
				}
				if _, read := v.List(t.Context(), prod); err != nil || read != nil {
					t.Error(err, read)
				}
			}
		})
	}
	all.Wait()
	v := opened(t, dir)
	if got := given(t, v, dev); len(got) != 5 || len(recipientsOf(t, v)) != 5 {
		t.Errorf("%d variables, %v", len(got), recipientsOf(t, v))
	}
}
