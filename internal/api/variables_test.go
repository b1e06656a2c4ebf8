package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// keeper is a fake that keeps variables. It writes down what it was asked, with the values.
type keeper struct {
	*fake
	kept []deploy.Variable
}

func (k keeper) SetVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by deploy.Person) error {
	text := fmt.Sprintf("set %s %s by %s <%s>:", stage, kind, by.Name, by.Mail)
	for _, one := range values {
		text += " " + one.Name + "=" + one.Value.Reveal()
	}
	return k.note(text)
}

func (k keeper) RemoveVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) error {
	return k.note(fmt.Sprintf("remove %s %s by %s: %s", stage, kind, by.Name, strings.Join(names, " ")))
}

func (k keeper) ListVariables(_ context.Context, stage deploy.StageRef) ([]deploy.Variable, error) {
	return k.kept, k.note("list " + stage.String())
}

func (k keeper) Password(_ context.Context, stage deploy.StageRef) (secret.Text, error) {
	return secret.New("pass-of-now"), k.note("password " + stage.String())
}

func (k keeper) NewPassword(_ context.Context, stage deploy.StageRef, by deploy.Person) (secret.Text, error) {
	return secret.New("pass-anew"), k.note("new password " + stage.String() + " by " + by.Name)
}

func (k keeper) Settle(_ context.Context, stage deploy.StageRef, home deploy.Home) error {
	return k.note("settle " + stage.String() + " " + home.Engine + " " + home.Region + " " + home.Account)
}

func (k keeper) ChangeVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, remove []string, by deploy.Person) error {
	return k.note(fmt.Sprintf("change %s %s by %s: %s=%s without %v", stage, kind, by.Name, values[0].Name, values[0].Value.Reveal(), remove))
}

func (k keeper) ReadVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) ([]deploy.Setting, error) {
	return []deploy.Setting{{Name: "A", Value: secret.New("ü \"<&>\n")}}, k.note(fmt.Sprintf("read %s %s by %s: %v", stage, kind, by.Name, names))
}

func (k keeper) CompareVariables(_ context.Context, stage deploy.StageRef, _ deploy.VariableKind, values []deploy.Setting) ([]deploy.VariableChange, error) {
	return []deploy.VariableChange{{Name: values[0].Name, Is: deploy.ChangeNew}}, k.note("compare " + stage.String())
}

func (k keeper) VariableVersions(_ context.Context, stage deploy.StageRef, name string) ([]deploy.VariableVersion, error) {
	return []deploy.VariableVersion{{Number: 2, Now: true}, {Number: 1, Gone: "revoked"}}, k.note("versions " + stage.String() + " " + name)
}

func (k keeper) RevokeVersions(_ context.Context, stage deploy.StageRef, name string, versions []int, by deploy.Person) ([]int, error) {
	return versions, k.note(fmt.Sprintf("revoke %s %s %v by %s", stage, name, versions, by.Name))
}

func (k keeper) Recipients(context.Context) ([]deploy.Recipient, error) {
	return []deploy.Recipient{{Name: "this-machine", Key: "age1x", Own: true}}, k.note("recipients")
}

func (k keeper) AddRecipient(_ context.Context, name, key string, by deploy.Person) error {
	return k.note("add " + name + " " + key + " by " + by.Name)
}

func (k keeper) RemoveRecipient(_ context.Context, name string, by deploy.Person) error {
	return k.note("take " + name + " away by " + by.Name)
}

func (k keeper) RotateKey(_ context.Context, by deploy.Person) error {
	return k.note("rotate by " + by.Name)
}

var (
	shop = deploy.StageRef{App: "shop", Stage: "dev"}
	anna = deploy.Person{Name: "Anna", Mail: "anna@example.org"}
)

// Values arrive as they were sent, byte for byte, and a listing never has one of a secret, whatever the service gives.
func TestVariablesTravel(t *testing.T) {
	since := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	k := keeper{newFake(), []deploy.Variable{{Name: "A", Kind: deploy.SecretVariable, Value: secret.New("hunter2"), Since: since, By: "p-1"},
		{Name: "B", Kind: deploy.PlainVariable, Value: secret.New("plain <&>"), Since: since, By: "p-2"}, {Name: "C", Kind: deploy.PlainVariable, Value: secret.New("")}}}
	c, ctx := reached(t, k), t.Context()
	odd := "ü \"quoted\"\n<&>\u2028 $x \\ end"
	err := c.SetVariables(ctx, shop, deploy.SecretVariable, []deploy.Setting{{Name: "A", Value: secret.New(odd)}, {Name: "B", Value: secret.New("")}}, anna)
	check(t, err, k.last(), "set shop/dev secret by Anna <anna@example.org>: A="+odd+" B=")
	check(t, c.RemoveVariables(ctx, shop, deploy.PlainVariable, []string{"A", "B"}, anna), k.last(), "remove shop/dev env by Anna: A B")

	all, err := c.ListVariables(ctx, shop)
	check(t, err, k.last(), "list shop/dev")
	if len(all) != 3 || !all[0].Value.Empty() || all[1].Value.Reveal() != "plain <&>" || all[0].Name != "A" || all[0].Kind != deploy.SecretVariable || !all[0].Since.Equal(since) || all[1].By != "p-2" {
		t.Errorf("%+v", all)
	}
	password, err := c.Password(ctx, shop)
	check(t, err, password.Reveal(), "pass-of-now")
	password, err = c.NewPassword(ctx, shop, anna)
	check(t, err, password.Reveal(), "pass-anew")
	check(t, nil, k.last(), "new password shop/dev by Anna")
	check(t, c.Settle(ctx, shop, deploy.Home{Engine: "aws", Region: "eu-central-1", Account: "123456789012"}), k.last(), "settle shop/dev aws eu-central-1 123456789012")

	for _, value := range []string{"\xff", "\x00", strings.Repeat("x", deploy.MaxVariable+1)} {
		before := k.calls()
		if err := c.SetVariables(ctx, shop, deploy.SecretVariable, []deploy.Setting{{Name: "A", Value: secret.New(value)}}, anna); !errors.Is(err, deploy.ErrBadInput) || k.calls() != before {
			t.Errorf("%.5q was sent: %v", value, err)
		}
	}
}

// The verbs of versions and recipients arrive as they were asked, and so do their answers.
func TestSecretsTravel(t *testing.T) {
	k := keeper{newFake(), nil}
	c, ctx := reached(t, k), t.Context()
	one := []deploy.Setting{{Name: "A", Value: secret.New("x")}}
	check(t, c.ChangeVariables(ctx, shop, deploy.SecretVariable, one, []string{"B"}, anna), k.last(), "change shop/dev secret by Anna: A=x without [B]")
	values, err := c.ReadVariables(ctx, shop, deploy.SecretVariable, []string{"A"}, anna)
	check(t, err, k.last(), "read shop/dev secret by Anna: [A]")
	if len(values) != 1 || values[0].Value.Reveal() != "ü \"<&>\n" {
		t.Errorf("%+v", values)
	}
	changes, err := c.CompareVariables(ctx, shop, deploy.SecretVariable, one)
	check(t, err, fmt.Sprint(changes), "[{A new}]")
	versions, err := c.VariableVersions(ctx, shop, "A&B")
	check(t, err, k.last(), "versions shop/dev A&B")
	if len(versions) != 2 || !versions[0].Now || versions[1].Gone != "revoked" {
		t.Errorf("%+v", versions)
	}
	revoked, err := c.RevokeVersions(ctx, shop, "A", []int{1, 2}, anna)
	check(t, err, fmt.Sprint(k.last(), revoked), "revoke shop/dev A [1 2] by Anna[1 2]")
	all, err := c.Recipients(ctx)
	check(t, err, fmt.Sprint(all), "[{this-machine age1x true}]")
	check(t, c.AddRecipient(ctx, "bo", "age1bo", anna), k.last(), "add bo age1bo by Anna")
	check(t, c.RemoveRecipient(ctx, "bo", anna), k.last(), "take bo away by Anna")
	check(t, c.RotateKey(ctx, anna), k.last(), "rotate by Anna")
	if _, err := reached(t, newFake()).Recipients(ctx); !errors.Is(err, deploy.ErrUnsupported) {
		t.Error(err)
	}
}

// Whatever is sent, no answer and no log has a piece of a value.
func TestValuesAreInNoErrorAndNoLog(t *testing.T) {
	var log bytes.Buffer
	k := keeper{newFake(), nil}
	s := NewServer(k, "1.0", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for _, body := range []string{`{"kind":"secret","values":[{"name":"A","value":4711471147114711}]}`, `{"kind":"secret","hunter2":1}`, `{"kind":"secret","values":[{"name":"A","value":"hunter2"},]}`,
		`{"values":"hunter2"}`, `hunter2`, `{"kind":"secret","values":[{"name":"A","value":null}]}`, `{"kind":4711471147114711}`, `{"by":{"name":4711471147114711}}`} {
		for _, path := range []string{"variables", "variables/change", "variables/values", "variables/comparison", "variables/revocations", "password"} {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/apps/shop/stages/dev/"+path, strings.NewReader(body)))
			if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String(), "hunter") || strings.Contains(w.Body.String(), "4711") {
				t.Errorf("%s: %d %s", body, w.Code, w.Body)
			}
		}
	}
	k.fake.err = fmt.Errorf("%w: no", deploy.ErrDamaged)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/apps/shop/stages/dev/variables", strings.NewReader(`{"kind":"secret","values":[{"name":"A","value":"hunter2"}]}`)))
	if w.Code != http.StatusUnprocessableEntity || k.calls() != 1 {
		t.Errorf("%d, %d calls", w.Code, k.calls())
	}
	if !strings.Contains(log.String(), "/v1/apps/shop/stages/dev/variables") || strings.Contains(log.String(), "hunter") || strings.Contains(log.String(), "4711") {
		t.Errorf("the log: %s", log.String())
	}
}

// What carries a value over the wire prints as a secret everywhere else.
func TestBareIsHidden(t *testing.T) {
	q := variablesBody{Values: []namedValue{{"A", bare{secret.New("hunter2")}}}}
	var text bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "value", q.Values[0].Value)
	fmt.Fprintf(&text, "%v %+v %#v %s", q, q, q, q)
	if strings.Contains(text.String(), "hunter") || !strings.Contains(text.String(), secret.Shown) {
		t.Errorf("%s", text.String())
	}
	data, err := json.Marshal(q)
	if err != nil || !strings.Contains(string(data), "hunter2") {
		t.Errorf("%s, %v", data, err)
	}
}

// A service that keeps none says so.
func TestNoVariables(t *testing.T) {
	c := reached(t, newFake())
	if _, err := c.ListVariables(t.Context(), shop); !errors.Is(err, deploy.ErrUnsupported) {
		t.Error(err)
	}
}
