package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/vault"
)

const hunter = "hunter2-correct-horse"

// house is vault, ledger and API together, as serve puts them together, over a real socket.
type house struct {
	dir    string
	log    bytes.Buffer
	book   *ledger.Ledger
	vault  *vault.Vault
	client *api.Client
}

// steady is a controller of which nothing is asked but that it is ready.
type steady struct {
	*deploy.Controller
	variables
}

func (steady) Ready() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func newHouse(t *testing.T, change ...func(*house)) *house {
	h := &house{dir: t.TempDir()}
	log := slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if h.book, err = ledger.Open(t.Context(), filepath.Join(h.dir, "ledger.db"), ledger.Config{Now: time.Now, Log: log}); err != nil {
		t.Fatal(err)
	}
	if h.vault, err = vault.Open(filepath.Join(h.dir, "vault"), filepath.Join(h.dir, "settings.key"), time.Now); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(h)
	}
	socket := filepath.Join(h.dir, "s")
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	server := api.NewServer(steady{nil, variables{h.vault, h.book}}, "1.0", log)
	go func() { ended <- server.ServeOn(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, h.book.Close()); err != nil {
			t.Error(err)
		}
	})
	h.client = api.NewClient(socket)
	return h
}

// A secret goes from a command into the vault and to the instances, with its change in the ledger, and no file, event, log or error has its value.
func TestSecretFromCommandToInstance(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	dev, anna := deploy.StageRef{App: "shop", Stage: "dev"}, deploy.Person{Name: "Anna", Mail: "anna@example.org"}
	values := []deploy.Setting{{Name: "STRIPE_KEY", Value: secret.New(hunter)}, {Name: "SLACK", Value: secret.New(hunter + "2")}}
	if err := h.client.SetVariables(ctx, dev, deploy.SecretVariable, values, anna); err != nil {
		t.Fatal(err)
	}
	if err := h.client.SetVariables(ctx, dev, deploy.PlainVariable, []deploy.Setting{{Name: "LOG", Value: secret.New("hunter-in-plain")}}, anna); err != nil {
		t.Fatal(err)
	}
	if err := h.client.RemoveVariables(ctx, dev, deploy.SecretVariable, []string{"SLACK"}, anna); err != nil {
		t.Fatal(err)
	}
	refused := h.client.SetVariables(ctx, dev, deploy.PlainVariable, []deploy.Setting{{Name: "STRIPE_KEY", Value: secret.New(hunter)}}, anna)
	if !errors.Is(refused, deploy.ErrBadInput) || strings.Contains(refused.Error(), "hunter") {
		t.Errorf("%v", refused)
	}
	password, err := h.client.NewPassword(ctx, dev, anna)
	if err != nil || password.Empty() {
		t.Fatal(err)
	}

	given, err := h.vault.Of(ctx, h.dir, "shop", deploy.Stage{Name: "dev", Private: true})
	if err != nil || len(given.Values) != 2 || given.Values[1].Value.Reveal() != hunter || given.Password.Reveal() != password.Reveal() {
		t.Errorf("%v, %v", given, err)
	}
	events, err := h.book.Events(ctx, deploy.EventQuery{App: "shop", Stage: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range events {
		told = append(told, strings.TrimSpace(e.Kind+" "+string(e.Data)))
		if names := h.book.Names(ctx, []string{e.Actor}); names[e.Actor] != "Anna" || e.Rollout != "" {
			t.Errorf("%s: by %s, rollout %q", e.Kind, e.Actor, e.Rollout)
		}
	}
	want := []string{`variable.set {"name":"SLACK","kind":"secret"}`, `variable.set {"name":"STRIPE_KEY","kind":"secret"}`, `variable.set {"name":"LOG","kind":"env"}`,
		`variable.removed {"name":"SLACK","kind":"secret"}`, "password.new"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	if list, err := h.client.ListVariables(ctx, dev); err != nil || len(list) != 2 || list[1].By != events[0].Actor {
		t.Errorf("%+v, %v", list, err)
	}
	for _, value := range []string{"hunter", password.Reveal()} {
		h.nowhere(t, value)
	}
}

// Who reads, changes, revokes and lets others open is in the ledger, with names of variables and nothing of values, keys or recipients.
func TestVerbsOfSecretsAreInTheLedger(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	dev, anna := deploy.StageRef{App: "shop", Stage: "dev"}, deploy.Person{Name: "Anna", Mail: "anna@example.org"}
	one := func(name, value string) []deploy.Setting {
		return []deploy.Setting{{Name: name, Value: secret.New(value)}}
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"set": errors.Join(h.client.SetVariables(ctx, dev, deploy.SecretVariable, one("A", hunter), anna), h.client.ChangeVariables(ctx, dev, deploy.SecretVariable, one("B", hunter+"2"), []string{"A"}, anna),
			h.client.SetVariables(ctx, dev, deploy.SecretVariable, one("B", hunter+"3"), anna)),
		"add": h.client.AddRecipient(ctx, "bo-example", identity.Recipient().String(), anna),
		"key": errors.Join(h.client.RotateKey(ctx, anna), h.client.RemoveRecipient(ctx, "bo-example", anna)),
	} {
		if err != nil {
			t.Fatal(what, err)
		}
	}
	if got, err := h.client.ReadVariables(ctx, dev, deploy.SecretVariable, []string{"B"}, anna); err != nil || len(got) != 1 || got[0].Value.Reveal() != hunter+"3" {
		t.Errorf("%v", err)
	}
	if got, err := h.client.RevokeVersions(ctx, dev, "B", nil, anna); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := h.client.ReadVariables(ctx, dev, deploy.SecretVariable, []string{"B"}, deploy.Person{}); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("nobody may read: %v", err)
	}
	events, err := h.book.Events(ctx, deploy.EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range events {
		told[strings.TrimSpace(e.Kind+" "+string(e.Data))]++
		if text := string(e.Data) + e.Actor; strings.Contains(text, "bo-example") || strings.Contains(text, "age1") || strings.Contains(text, "hunter") || e.Actor == "" {
			t.Errorf("an event holds %s", text)
		}
	}
	want := map[string]int{`variable.set {"name":"A","kind":"secret"}`: 1, `variable.set {"name":"B","kind":"secret"}`: 2, `variable.removed {"name":"A","kind":"secret"}`: 1,
		`variable.read {"name":"B","kind":"secret"}`: 1, `variable.revoked {"name":"B","kind":"secret","versions":[1]}`: 1, "recipient.added": 1, "recipient.removed": 1, "key.rotated": 1}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	h.nowhere(t, "hunter")
}

// A secret of a stage on AWS goes from a command into Secrets Manager, before the first rollout there; of it nothing but its name is here.
func TestSecretOfAStageOnAWS(t *testing.T) {
	config := mototest.Start(t, "eu-central-1", "no secret of a stage on AWS went from a command to the engine")
	t.Setenv("AWS_ENDPOINT_URL", *config.BaseEndpoint)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "example")
	h, ctx := newHouse(t, func(h *house) { h.vault = h.vault.With(vault.SecretsManager{Config: awsConfig}) }), t.Context()
	write := "app: shop\nservices: { site: { static: dist } }\naws: { region: eu-central-1 }\nstages: { prod: { engine: aws, url: https://shop.example.org, access: open } }\n"
	if err := os.WriteFile(filepath.Join(h.dir, "lotse.yaml"), []byte(write), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := outline(h.dir)
	home := deploy.Home{Engine: "aws", Region: "eu-central-1"}
	if err != nil || o.Homes["prod"] != home {
		t.Fatalf("%+v, %v", o, err)
	}
	prod, anna := deploy.StageRef{App: "shop", Stage: "prod"}, deploy.Person{Name: "Anna", Mail: "anna@example.org"}
	if err := h.client.Settle(ctx, prod, home); err != nil {
		t.Fatal(err)
	}
	if err := h.client.SetVariables(ctx, prod, deploy.SecretVariable, []deploy.Setting{{Name: "STRIPE_KEY", Value: secret.New(hunter)}}, anna); err != nil {
		t.Fatal(err)
	}
	given, err := h.vault.Of(ctx, h.dir, "shop", deploy.Stage{Name: "prod", Engine: "aws", AWS: deploy.AWS{Region: "eu-central-1"}})
	if err != nil || len(given.Values) != 1 || given.Values[0].Value.Reveal() != hunter || !strings.HasPrefix(given.Values[0].Reference, "arn:aws:secretsmanager:eu-central-1:") {
		t.Errorf("%+v, %v", given, err)
	}
	list, err := h.client.ListVariables(ctx, prod)
	if err != nil || len(list) != 1 || h.book.Names(ctx, []string{list[0].By})[list[0].By] != "Anna" || !list[0].Value.Empty() {
		t.Errorf("%+v, %v", list, err)
	}
	h.nowhere(t, hunter)
	if err := h.client.RemoveVariables(ctx, prod, deploy.SecretVariable, []string{"STRIPE_KEY"}, anna); err != nil {
		t.Error(err)
	}
	events, err := h.book.Events(ctx, deploy.EventQuery{App: "shop", Stage: "prod"})
	if err != nil || len(events) != 2 || events[0].Kind != deploy.KindVariableSet || events[1].Kind != deploy.KindVariableRemoved {
		t.Errorf("%+v, %v", events, err)
	}
}

// nowhere checks that no file below the state folder and no line of the log has a value, or its base64.
func (h *house) nowhere(t *testing.T, value string) {
	t.Helper()
	forms := []string{value, base64.StdEncoding.EncodeToString([]byte(value))[:7]}
	files := 0
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		for _, form := range forms {
			if bytes.Contains(data, []byte(form)) {
				t.Errorf("%s has %q", path, form)
			}
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
	if strings.Contains(h.log.String(), value) {
		t.Errorf("the log: %s", h.log.String())
	}
}

// What cannot be written into the ledger does not happen, and nobody changes anything without a name.
func TestNoChangeWithoutItsRecord(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	dev, anna := deploy.StageRef{App: "shop", Stage: "dev"}, deploy.Person{Name: "Anna"}
	values := []deploy.Setting{{Name: "A", Value: secret.New(hunter)}}
	if err := h.client.SetVariables(ctx, dev, deploy.SecretVariable, values, deploy.Person{}); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("%v", err)
	}
	v := variables{h.vault, full{h.book}}
	_, password := v.NewPassword(ctx, dev, anna)
	for verb, err := range map[string]error{"set": v.SetVariables(ctx, dev, deploy.SecretVariable, values, anna), "password": password} {
		if !errors.Is(err, deploy.ErrNoSpace) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if list, err := h.client.ListVariables(ctx, dev); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// full is a ledger that takes no more events.
type full struct{ deploy.Ledger }

func (full) Append(context.Context, deploy.Event) (deploy.Event, error) {
	return deploy.Event{}, deploy.ErrNoSpace
}

func TestOutline(t *testing.T) {
	dir := t.TempDir()
	if _, err := outline(dir); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "lotse.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("app: shop\npipeline: { a: { run: make, makes: [dist], public: [B, A] }, b: { run: make, public: [A] } }\nservices: { site: { static: dist } }\n" +
		"database: { postgres: 15 }\nstages: { dev: { url: https://dev.shop.localhost }, prod: { url: https://shop.localhost, database: { url: DB } } }\n")
	got, err := outline(dir)
	want := cli.Outline{App: "shop", Stages: []string{"dev", "prod"}, Private: []string{"dev"}, Owned: []string{"dev"}, Public: []string{"A", "B"},
		Uses: map[string]map[string][]string{"dev": {"A": {"pipeline.a", "pipeline.b"}, "B": {"pipeline.a"}}, "prod": {"A": {"pipeline.a", "pipeline.b"}, "B": {"pipeline.a"}, "DB": {"database.url"}}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	write("app: [")
	if _, err := outline(dir); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("%v", err)
	}
}

// Who asks is whom git knows in the folder; else the user of the machine, without an address. Variables that name somebody else's repository
// have no say.
func TestWho(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	if p := who(dir); p.Name == "" || p.Mail != "" {
		t.Errorf("%+v", p)
	}
	config := "[user]\n\tname = Anna B\n\temail = anna@example.org\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	if p := who(dir); p != (deploy.Person{Name: "Anna B", Mail: "anna@example.org"}) {
		t.Errorf("%+v", p)
	}
}
