package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/vault"
)

const frankfurt = "eu-central-1"

var onAWS = deploy.Stage{Name: "prod", Engine: "aws", Private: true, AWS: deploy.AWS{Region: frankfurt, Account: mototest.Account}}

// memory is a Remote in a map, whose listing comes as late as it is told to, and which fails as it is told to.
type memory struct {
	mu     sync.Mutex
	kept   map[string]vault.Kept
	late   bool // List shows nothing yet
	fails  map[string]error
	puts   int
	old    map[string][]vault.Kept // versions before
	no     map[string]bool         // ids that were revoked
	opened []deploy.Home
}

func (m *memory) Open(_ context.Context, home deploy.Home, _ deploy.StageRef) (vault.Remote, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened = append(m.opened, home)
	return m, m.fails["open"]
}

func (m *memory) List(context.Context) (all []vault.Kept, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, k := range m.kept {
		if !m.late && name != "LOTSE_PASSWORD" {
			k.Value = secret.Text{}
			all = append(all, k)
		}
	}
	return all, m.fails["list"]
}

func (m *memory) Read(_ context.Context, names []string) (all []vault.Kept, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if k, there := m.kept[name]; there {
			all = append(all, k)
		}
	}
	return all, nil
}

func (m *memory) Put(_ context.Context, name string, value secret.Text, by string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails[name]; err != nil {
		return err
	}
	if m.kept == nil {
		m.kept = map[string]vault.Kept{}
	}
	m.puts++
	if is, there := m.kept[name]; there {
		if m.old == nil {
			m.old = map[string][]vault.Kept{}
		}
		m.old[name] = append(m.old[name], is)
	}
	m.kept[name] = vault.Kept{Name: name, Reference: "arn:" + name, Version: fmt.Sprint(m.puts), Value: value, Since: noon, By: by}
	return nil
}

// versions are all of a name, the oldest first.
func (m *memory) versions(name string) []vault.Kept {
	if is, there := m.kept[name]; there {
		return append(slices.Clone(m.old[name]), is)
	}
	return nil
}

func (m *memory) Versions(_ context.Context, name string) (all []vault.KeptVersion, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, k := range m.versions(name) {
		one := vault.KeptVersion{Number: i + 1, ID: k.Version, Now: k.Version == m.kept[name].Version}
		if m.no[name+k.Version] {
			one.Gone = deploy.VersionRevoked
		}
		all = append(all, one)
	}
	return all, nil
}

func (m *memory) At(_ context.Context, name, id string) (vault.Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.versions(name) {
		switch {
		case k.Version != id:
		case m.no[name+id]:
			return k, vault.Gone(deploy.VersionRevoked)
		default:
			k.Origin, k.Reference = k.Reference, k.Reference+"/"+id
			return k, nil
		}
	}
	return vault.Kept{}, vault.Gone(deploy.VersionNotKept)
}

func (m *memory) Revoke(_ context.Context, name string, numbers []int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.no == nil {
		m.no = map[string]bool{}
	}
	for i, k := range m.versions(name) {
		if slices.Contains(numbers, i+1) {
			m.no[name+k.Version] = true
		}
	}
	return nil
}

func (m *memory) Make(ctx context.Context, name string, value secret.Text, by string) (secret.Text, error) {
	if k, there := m.kept[name]; there {
		return k.Value, nil
	}
	return value, m.Put(ctx, name, value, by)
}

func (m *memory) Remove(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, name)
	return nil
}

func TestSecretsInMemory(t *testing.T) { awayContract(t, &memory{}) }

func TestSecretsOnMoto(t *testing.T) {
	config := mototest.Start(t, frankfurt, "no secret went through a Secrets Manager that others wrote")
	awayContract(t, vault.SecretsManager{Config: func(context.Context, string) (aws.Config, error) { return config, nil }})
}

func TestSecretsOnOurFake(t *testing.T) {
	world := awsfake.Open(t, awsfake.Options{})
	awayContract(t, vault.SecretsManager{Config: func(_ context.Context, region string) (aws.Config, error) { return world.Config(region), nil }})
	asked := map[string]bool{}
	for _, c := range world.Calls() {
		asked[c.Service+":"+c.Action] = true
	}
	// What docs/secrets.md says that it takes, and whose the credentials are.
	want := []string{"secretsmanager:BatchGetSecretValue", "secretsmanager:CreateSecret", "secretsmanager:DeleteSecret", "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue",
		"secretsmanager:ListSecrets", "secretsmanager:PutSecretValue", "secretsmanager:RestoreSecret", "secretsmanager:TagResource", "secretsmanager:UpdateSecretVersionStage", "sts:GetCallerIdentity"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(asked))); diff != "" {
		t.Error(diff)
	}
}

// awayContract is what a vault does with secrets of a stage on AWS, whatever keeps them.
func awayContract(t *testing.T, remotes vault.Remotes) {
	dir := t.TempDir()
	v := opened(t, dir).With(remotes)
	// Set before the stage went to AWS: that is brought there by the first call.
	set(t, v, prod, deploy.SecretVariable, "OLD", hunter)
	set(t, v, prod, deploy.PlainVariable, "LOG", "debug")
	password, err := v.Password(t.Context(), prod)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Settle(t.Context(), prod, onAWS.Home()); err != nil {
		t.Fatal(err)
	}
	set(t, v, prod, deploy.SecretVariable, "KEY", hunter+"2")
	set(t, v, dev, deploy.SecretVariable, "KEY", "of dev, which stays here")
	for i := range 25 {
		set(t, v, prod, deploy.SecretVariable, fmt.Sprintf("MANY_%02d", i), fmt.Sprint("value ", i))
	}
	first := of(t, v, onAWS)
	if len(first.Values) != 28 || len(first.Secrets) != 27 || first.Password.Reveal() != password.Reveal() {
		t.Errorf("%d values, %d secrets", len(first.Values), len(first.Secrets))
	}
	for _, s := range first.Values {
		if away := s.Name != "LOG"; away != (s.Reference != "") || s.Value.Empty() {
			t.Errorf("%s has the reference %q", s.Name, s.Reference)
		}
	}
	if got := of(t, v, onAWS); got.Version != first.Version {
		t.Error("the version changes by itself")
	}
	listed(t, v, "KEY", "LOG", "OLD")

	set(t, v, prod, deploy.SecretVariable, "KEY", hunter+"3")
	changed := of(t, v, onAWS)
	if changed.Version == first.Version || value(changed, "KEY") != hunter+"3" {
		t.Error("another value is no other version")
	}
	if err := v.Remove(t.Context(), prod, deploy.SecretVariable, []string{"KEY", "NONE"}, nil); !errors.Is(err, deploy.ErrNotFound) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("remove what is not there: %v", err)
	}
	if err := v.Remove(t.Context(), prod, deploy.SecretVariable, []string{"KEY"}, nil); err != nil {
		t.Fatal(err)
	}
	if value(of(t, v, onAWS), "KEY") != "" {
		t.Error("a secret that was removed is still given")
	}
	listed(t, v, "LOG", "OLD")
	set(t, v, prod, deploy.SecretVariable, "KEY", hunter+"4")
	if value(of(t, v, onAWS), "KEY") != hunter+"4" {
		t.Error("a secret that was removed cannot be set again")
	}
	anew, err := v.NewPassword(t.Context(), prod, nil)
	if again, err2 := v.Password(t.Context(), prod); err != nil || err2 != nil || again.Reveal() != anew.Reveal() || anew.Reveal() == password.Reveal() {
		t.Errorf("the new password: %v, %v", err, err2)
	}
	plain := v.Set(t.Context(), prod, deploy.PlainVariable, one("KEY", "x"), "p-anna", nil)
	if !errors.Is(plain, deploy.ErrBadInput) || !strings.Contains(plain.Error(), "is a secret of shop/prod") {
		t.Errorf("a secret may become plain: %v", plain)
	}
	set(t, v, prod, deploy.SecretVariable, "LOG", "now a secret")
	if got := of(t, v, onAWS); value(got, "LOG") != "now a secret" || !slices.Contains(got.Secrets, "LOG") {
		t.Error("a variable cannot become a secret")
	}
	if got := given(t, v, dev); !slices.Equal(got, []string{"KEY=of dev, which stays here"}) {
		t.Errorf("dev has %q", got)
	}
	// Another controller, with an empty state, finds the same.
	other := opened(t, t.TempDir()).With(remotes)
	if got := of(t, other, onAWS); value(got, "KEY") != hunter+"4" || value(got, "OLD") != hunter || got.Password.Reveal() != anew.Reveal() {
		t.Errorf("another controller finds %d values", len(got.Values))
	}
}

func of(t *testing.T, v *vault.Vault, stage deploy.Stage) deploy.Settings {
	t.Helper()
	s, err := v.Of(t.Context(), t.TempDir(), "shop", stage)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func value(s deploy.Settings, name string) string {
	for _, v := range s.Values {
		if v.Name == name {
			return v.Value.Reveal()
		}
	}
	return ""
}

// listed checks the names that are listed but those of MANY, and that no value of a secret is.
func listed(t *testing.T, v *vault.Vault, want ...string) {
	t.Helper()
	all, err := v.List(t.Context(), prod)
	var names []string
	for _, one := range all {
		if !strings.HasPrefix(one.Name, "MANY_") {
			names = append(names, one.Name)
		}
		if one.Kind == deploy.SecretVariable && (!one.Value.Empty() || one.By != "p-anna" || one.Since.IsZero()) {
			t.Errorf("%s is listed as %+v", one.Name, one)
		}
	}
	if diff := cmp.Diff(want, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// A listing of Secrets Manager may come minutes late: what was set here counts at once.
func TestListingsThatComeLate(t *testing.T) {
	m := &memory{late: true}
	v := opened(t, t.TempDir()).With(m)
	if err := v.Settle(t.Context(), prod, onAWS.Home()); err != nil {
		t.Fatal(err)
	}
	set(t, v, prod, deploy.SecretVariable, "KEY", hunter)
	if got := of(t, v, onAWS); value(got, "KEY") != hunter {
		t.Error("a secret that was just set is not given")
	}
	if err := v.Remove(t.Context(), prod, deploy.SecretVariable, []string{"KEY"}, nil); err != nil {
		t.Error(err)
	}
	if got := of(t, v, onAWS); value(got, "KEY") != "" {
		t.Error("a secret that was just removed is given")
	}
}

func TestWhatGoesWrongAway(t *testing.T) {
	m := &memory{fails: map[string]error{"B": fmt.Errorf("%w: no", deploy.ErrRefused)}}
	v := opened(t, t.TempDir()).With(m)
	if err := v.Settle(t.Context(), prod, onAWS.Home()); err != nil {
		t.Fatal(err)
	}
	values := slices.Concat(one("A", hunter), one("B", hunter), one("C", hunter))
	err := v.Set(t.Context(), prod, deploy.SecretVariable, values, "p", nil)
	if !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "A was set before") || strings.Contains(err.Error(), hunter) {
		t.Errorf("%v", err)
	}
	full := func() error { return deploy.ErrNoSpace }
	if err := v.Set(t.Context(), prod, deploy.SecretVariable, one("D", hunter), "p", full); !errors.Is(err, deploy.ErrNoSpace) || m.puts != 1 {
		t.Errorf("what cannot be recorded: %v, %d puts", err, m.puts)
	}
	if err := v.Remove(t.Context(), prod, deploy.SecretVariable, []string{"A"}, full); !errors.Is(err, deploy.ErrNoSpace) || len(m.kept) != 1 {
		t.Errorf("what cannot be recorded: %v, %d are kept", err, len(m.kept))
	}
	if _, err := v.NewPassword(t.Context(), prod, full); !errors.Is(err, deploy.ErrNoSpace) || m.puts != 1 {
		t.Errorf("what cannot be recorded: %v", err)
	}
	for name, text := range map[string]string{"EMPTY": "", "LOTSE_PRIVATE": "x"} {
		if err := v.Set(t.Context(), prod, deploy.SecretVariable, one(name, text), "p", nil); !errors.Is(err, deploy.ErrBadInput) || m.puts != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.fails = map[string]error{"list": deploy.ErrUnavailable}
	if err := v.Set(t.Context(), prod, deploy.SecretVariable, one("E", hunter), "p", func() error { t.Error("recorded"); return nil }); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	// A secret that was sealed here stays so until it is away.
	w := opened(t, t.TempDir()).With(m)
	set(t, w, prod, deploy.SecretVariable, "B", hunter)
	m.fails = map[string]error{"B": deploy.ErrUnavailable}
	if _, err := w.Of(t.Context(), t.TempDir(), "shop", onAWS); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	m.fails = nil
	if got := of(t, w, onAWS); value(got, "B") != hunter {
		t.Error("a secret was lost on its way")
	}
	here := opened(t, t.TempDir())
	if _, err := here.Of(t.Context(), t.TempDir(), "shop", onAWS); !errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("a vault without remotes: %v", err)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// answering is a Secrets Manager that answers actions with a code; "" is the real thing behind, and "network" none.
func answering(config aws.Config, code func(action string) string) vault.SecretsManager {
	behind := config.HTTPClient
	config.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		c := code(action)
		switch c {
		case "":
			return behind.Do(r)
		case "network":
			return nil, errors.New("dial tcp 10.1.2.3:443: connection refused")
		}
		body := `{"__type":"` + c + `","message":"User: arn:aws:sts::1:assumed-role/x/eve@example.invalid; ` + hunter + `"}`
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})
	return vault.SecretsManager{Config: func(context.Context, string) (aws.Config, error) { return config, nil }}
}

var anywhere = aws.Config{Region: frankfurt, BaseEndpoint: aws.String("http://127.0.0.1:1"), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "example", ""),
	Retryer: func() aws.Retryer { return aws.NopRetryer{} }}

// An error names the action and the secret, says what to do, and tells nothing of values, people and addresses.
func TestErrorsOfSecretsManager(t *testing.T) {
	home, stage := deploy.Home{Engine: "aws", Region: frankfurt}, prod
	for code, want := range map[string]error{"AccessDeniedException": deploy.ErrRefused, "ThrottlingException": deploy.ErrUnavailable, "ExpiredTokenException": deploy.ErrUnavailable,
		"UnrecognizedClientException": deploy.ErrBadInput, "InvalidSignatureException": deploy.ErrBadInput, "DecryptionFailure": deploy.ErrRefused,
		"network": deploy.ErrUnavailable} {
		remote, err := answering(anywhere, func(string) string { return code }).Open(t.Context(), home, stage)
		if err != nil {
			t.Fatal(err)
		}
		_, list := remote.List(t.Context())
		_, read := remote.Read(t.Context(), []string{"KEY"})
		_, made := remote.Make(t.Context(), "KEY", secret.New(hunter), "p")
		for action, err := range map[string]error{"ListSecrets": list, "secret lotse/shop/prod/KEY": read, "DescribeSecret of secret lotse/shop/prod/KEY": made,
			"DeleteSecret of secret lotse/shop/prod/KEY": remote.Remove(t.Context(), "KEY")} {
			if !errors.Is(err, want) || !strings.Contains(err.Error(), action) {
				t.Errorf("%s at %s: %v", code, action, err)
			}
			if all := err.Error() + deploy.HintOf(err); strings.Contains(all, "eve") || strings.Contains(all, hunter) || strings.Contains(all, "10.1.2.3") {
				t.Errorf("%s tells %q", code, all)
			}
			if deploy.HintOf(err) == "" {
				t.Errorf("%s at %s has no hint", code, action)
			}
		}
	}
	nobody := anywhere
	nobody.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no EC2 IMDS role found")
	})
	remote, err := answering(nobody, func(string) string { return "network" }).Open(t.Context(), home, stage)
	if err == nil {
		_, err = remote.List(t.Context())
	}
	if !errors.Is(err, deploy.ErrMissing) {
		t.Errorf("without credentials: %v", err)
	}
	if _, err := (vault.SecretsManager{}).Open(t.Context(), deploy.Home{Engine: "aws"}, stage); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("without a region: %v", err)
	}
}

func TestSecretsManagerAsItIs(t *testing.T) {
	config := mototest.Start(t, frankfurt, "no secret went through a Secrets Manager that others wrote")
	asItIs := vault.SecretsManager{Config: func(context.Context, string) (aws.Config, error) { return config, nil }}
	v := opened(t, t.TempDir()).With(asItIs)
	if err := v.Settle(t.Context(), prod, onAWS.Home()); err != nil {
		t.Fatal(err)
	}
	set(t, v, prod, deploy.SecretVariable, "KEY", hunter)
	client := secretsmanager.NewFromConfig(config)
	id := "lotse/shop/prod/KEY"
	is, err := client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &id})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, tag := range is.Tags {
		tags[*tag.Key] = *tag.Value
	}
	if diff := cmp.Diff(map[string]string{"lotse:app": "shop", "lotse:stage": "prod", "lotse:by": "p-anna"}, tags); diff != "" {
		t.Error(diff)
	}
	// What is no variable of people is not shown: the engine's own, another stage whose name begins so.
	for _, name := range []string{"lotse/shop/prod/engine/LOTSE_PRIVATE", "lotse/shop/prod-2/KEY", "lotse/shop/prod/LOTSE_PASSWORD"} {
		if _, err := client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if got := of(t, v, onAWS); len(got.Values) != 1 || got.Values[0].Reference != *is.ARN || got.Values[0].Value.Reveal() != hunter {
		t.Errorf("%+v", got.Values)
	}
	t.Run("a value that may not be read", func(t *testing.T) {
		for _, all := range []bool{true, false} {
			blind := answering(config, func(action string) string {
				if action == "BatchGetSecretValue" && all {
					return "AccessDeniedException"
				}
				return ""
			})
			if !all {
				blind = eachDenied(config)
			}
			got := of(t, v.With(blind), onAWS)
			if len(got.Values) != 1 || got.Values[0].Reference != *is.ARN || !got.Values[0].Value.Empty() {
				t.Errorf("all %v: %+v", all, got.Values)
			}
			if got.Version != of(t, v, onAWS).Version {
				t.Errorf("all %v: who may not read the value finds another version", all)
			}
		}
	})
	t.Run("another account", func(t *testing.T) {
		stage := onAWS
		stage.AWS.Account = "999999999999"
		if _, err := opened(t, t.TempDir()).With(asItIs).Of(t.Context(), t.TempDir(), "shop", stage); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), mototest.Account) {
			t.Errorf("%v", err)
		}
	})
	if err := v.Remove(t.Context(), prod, deploy.SecretVariable, []string{"KEY"}, nil); err != nil {
		t.Fatal(err)
	}
	gone, err := client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &id})
	if err != nil || gone.DeletedDate == nil {
		t.Errorf("a secret that was removed cannot be restored: %v", err)
	}
}

// eachDenied is a Secrets Manager that answers for each secret by itself that its value may not be read.
func eachDenied(config aws.Config) vault.SecretsManager {
	behind := config.HTTPClient
	config.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".BatchGetSecretValue") {
			return behind.Do(r)
		}
		body := `{"SecretValues":[],"Errors":[{"SecretId":"lotse/shop/prod/KEY","ErrorCode":"AccessDeniedException","Message":"no"}]}`
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})
	return vault.SecretsManager{Config: func(context.Context, string) (aws.Config, error) { return config, nil }}
}
