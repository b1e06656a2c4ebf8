package postgres

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/secret"
)

// What leaves this machine leaves it with TLS, whatever an address says or does not say.
func TestAddressAndTLS(t *testing.T) {
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"postgres://me:x@db.example.com/shop":                                          "require",
		"postgres://me:x@db.example.com/shop?sslmode=prefer":                           "require",
		"postgres://me:x@db.example.com/shop?sslmode=allow":                            "require",
		"postgres://me:x@db.example.com/shop?sslmode=verify-full&sslrootcert=" + roots: "verify-full",
		"host=db.example.com user=me dbname=shop":                                      "require",
		"postgres://me:x@db.example.com/shop?sslmode=disable":                          "refused",
		"host=db.example.com user=me sslmode=disable":                                  "refused",
		"host=localhost hostaddr=192.0.2.7 user=me sslmode=disable":                    "refused",
		"postgres://me:x@db.example.com/shop?host=localhost&hostaddr=192.0.2.7":        "require",
		"postgres://me:x@one.example.com,localhost/shop":                               "refused",
		"postgres://me:x@localhost/shop?sslmode=disable":                               "disable",
		"postgres://me:x@127.0.0.1:5433/shop":                                          "",
		"host=/run/postgresql dbname=shop":                                             "",
	} {
		a, err := ParseAddress(secret.New(text), "test")
		got := "refused"
		if err == nil {
			got = a.settings["sslmode"]
		}
		if got != want || err != nil && (!errors.Is(err, ErrAddress) || strings.Contains(err.Error(), "example")) {
			t.Errorf("%s: %s, want %s (%v)", text, got, want, err)
		}
	}
}

// What is the app's own driver's is left out, what is the server's is not.
func TestAddressSettings(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"postgresql://me:p%40ss@db.example.com:5433/shop?schema=public&pool_timeout=3&connect_timeout=4": {
			"host": "db.example.com", "port": "5433", "dbname": "shop", "user": "me", "connect_timeout": "4", "application_name": "test", "sslmode": "require"},
		`host = '/run/a b' dbname='it''s' password=hunter2`: nil,
		`host = '/run/a b' dbname='it\'s' password=p@ss`:    {"host": "/run/a b", "dbname": "it's", "application_name": "test"},
		"postgres://localhost/shop?search_path=app,%20public&password=p@ss&application_name=mine": {
			"host": "localhost", "dbname": "shop", "application_name": "mine", "options": `-c search_path=app,\ public`},
		"mysql://localhost/shop": nil,
		"":                       nil,
		"host='unended":          nil,
		"postgres://localhost/shop?user=a%0Asslmode=disable": nil,
		"host=localhost sslrootcert=/nowhere/at/all":         nil,
	} {
		a, err := ParseAddress(secret.New(text), "test")
		if want == nil {
			if !errors.Is(err, ErrAddress) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := maps.Clone(a.settings)
		maps.DeleteFunc(got, func(name, value string) bool { return aliveness[name] == value })
		if password := a.password.Reveal(); !maps.Equal(got, want) || password != "p@ss" {
			t.Errorf("%s is read as %v and %d bytes of a password, want %v", text, got, len(password), want)
		}
	}
}

// A program of PostgreSQL comes in with the password, and neither its arguments nor its environment nor a folder has it.
func TestTell(t *testing.T) {
	c := madeCluster(t)
	c.Port = freePort(t)
	start(t, c, &output{})
	dsn := create(t, c, "told")
	address, err := ParseAddress(secret.New(dsn.Reveal()+"&search_path=pg_catalog"), "lotse test")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := address.Connect(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(bounded(t))
	const question = "select concat_ws(' ', current_user, current_setting('application_name'), current_setting('search_path'))"
	var want string
	if err := conn.QueryRow(bounded(t), question).Scan(&want); err != nil || want != "told lotse test pg_catalog" {
		t.Fatalf("we are %q: %v", want, err)
	}
	installed, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cmd := exec.CommandContext(bounded(t), filepath.Join(installed.Dir, "psql"), strings.Replace(ServiceArgument, "--dbname=", "", 1), "--no-psqlrc", "--tuples-only", "--no-align", "--no-password", "--command="+question)
	cmd.ExtraFiles = []*os.File{other}
	told, err := address.Tell(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	told()
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("psql is %q, want %q: %v %s", out, want, err, said.String())
	}
	password := address.password.Reveal()
	if password == "" || slices.ContainsFunc(slices.Concat(cmd.Args, cmd.Env), func(s string) bool { return strings.Contains(s, password) }) {
		t.Error("the password is among the arguments or in the environment, or there is none")
	}
}
