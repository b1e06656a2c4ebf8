package e2e_test

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lotse-eu/lotse/internal/postgres"
)

const example = "../examples/whatsgonow"

// exampleFiles are the sources of the example, with its file changed.
func exampleFiles(t *testing.T, change func(string) string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(example, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && slices.Contains([]string{"node_modules", "dist", "bin", "data"}, d.Name()) {
			return cmpErr(err, fs.SkipDir)
		}
		if d.IsDir() || d.Name() == ".env" {
			return nil
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(example, path)
		files[name] = string(raw)
		return err
	})
	if err != nil || files["lotse.yaml"] == "" {
		t.Fatal(err)
	}
	files["lotse.yaml"] = change(strings.NewReplacer("on: push main, ", "", "env_file: .env, ", "").Replace(files["lotse.yaml"]))
	return files
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// rds is a PostgreSQL for each stage, which is real and stands behind the names of the databases in the account.
type rds map[string]postgres.Cluster

func newRDS(t *testing.T) rds {
	all := rds{}
	for _, stage := range road {
		cluster := postgres.Cluster{Dir: filepath.Join(folder(t), "pg"), Port: freePort(t), Major: 15}
		if err := cluster.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
		server, err := cluster.Start(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Stop(t.Context()); _ = cluster.Remove(t.Context()) })
		all[stage] = cluster
	}
	return all
}

// authorities is what Amazon's bundle of a region is: certificates of those who sign the databases' certificates.
func (r rds) authorities(t *testing.T) map[string][]byte {
	var bundle []byte
	for _, cluster := range r {
		raw, err := os.ReadFile(cluster.AuthorityPath())
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, raw...)
	}
	return map[string][]byte{"https://truststore.pki.rds.amazonaws.com/eu-central-1/eu-central-1-bundle.pem": bundle}
}

// connect puts the clusters behind the databases of the stack, with the password of each in the stack's secret.
func (r rds) connect(c *cloud, app string) {
	c.t.Helper()
	secrets := secretsmanager.NewFromConfig(c.world.Config(""))
	for stage, cluster := range r {
		dsn, err := cluster.CreateDatabase(c.t.Context(), "app")
		if err != nil {
			c.t.Fatal(err)
		}
		address, err := url.Parse(dsn.Reveal())
		if err != nil {
			c.t.Fatal(err)
		}
		password, _ := address.User.Password()
		camel := strings.ToUpper(stage[:1]) + stage[1:]
		if _, err := secrets.PutSecretValue(c.t.Context(), &secretsmanager.PutSecretValueInput{SecretId: sdk.String(c.world.Physical(c.world.Region(), "lotse-"+app, camel+"DatabaseSecret")),
			SecretString: sdk.String(fmt.Sprintf(`{"username":"app","password":%q}`, password))}); err != nil {
			c.t.Fatal(err)
		}
		host := c.world.Physical(c.world.Region(), "lotse-"+app, camel+"Database") + ".fake." + c.world.Region() + ".rds.amazonaws.com"
		c.world.Elsewhere(host+":5432", fmt.Sprintf("127.0.0.1:%d", cluster.Port))
	}
}

// The example, with its database, volume, job and two kinds of services, on three stages of AWS: one line each. What is released is what the
// same commit is on one machine. PostgreSQL is real, and stands in for RDS; all else is the fake.
func TestExampleOnAWS(t *testing.T) {
	t.Parallel()
	provesOnly(t, "the example on the fake of AWS")
	databases := newRDS(t)
	c := newCloudWith(t, databases.authorities(t))
	files := exampleFiles(t, func(file string) string {
		return strings.Replace(onAWSNow(strings.ReplaceAll(strings.ReplaceAll(file, "//whatsgonow.localhost", "//whatsgonow.example"), "private", "open"), "whatsgonow"), "*/15 * * * *", "* * * * *", 1)
	})
	repo := c.begin("whatsgonow", files)
	databases.connect(c, "whatsgonow")
	c.patiently(repo)
	c.must(repo, "promote", "staging")
	said := c.must(repo, "promote", "prod")
	t.Log(said)
	for path, want := range map[string]string{"/": "<!doctype html>", "/api/health": ""} {
		if code, body := c.asked("www.whatsgonow.example", path); code != http.StatusOK || !strings.Contains(strings.ToLower(body), want) {
			t.Errorf("prod answers %s with %d: %.200s", path, code, body)
		}
	}
	if code, _ := c.asked("whatsgonow.example", "/"); code != http.StatusMovedPermanently {
		t.Errorf("the second host answers %d, want 301", code)
	}
	for _, stage := range road {
		c.unpacked(c.serving(stage))
	}
	c.oneVolume("prod")
	c.await("the job has run on an instance", 100*time.Second, func() bool { return strings.Contains(c.must(repo, "logs", "--stage", "prod"), "expired") })

	// Under another name beside it, since an app has one file; the outputs of the steps come from the cache, or this would take minutes more.
	here := exampleFiles(t, func(file string) string {
		return strings.NewReplacer("app: whatsgonow", "app: here", "whatsgonow.localhost", "here.localhost").Replace(file)
	})
	c.patiently(c.repository(here))
	local, aws := c.filesOn("here", "dev"), c.filesOn("whatsgonow", "dev")
	delete(local, ".lotse/lotse.yaml")
	delete(aws, ".lotse/lotse.yaml")
	if len(local) < 10 || !maps.Equal(local, aws) {
		t.Errorf("on one machine the release has %d files, on AWS %d, and they are not the same", len(local), len(aws))
	}
}

// oneVolume writes on one instance of a stage and reads on the other.
func (c *cloud) oneVolume(stage string) {
	c.t.Helper()
	for name, e := range c.environments() {
		if c.tags(e.EnvironmentArn)["lotse:stage"] != stage {
			continue
		}
		all := c.world.Instances(name)
		if len(all) != 2 {
			c.t.Errorf("%s has %d instances, want 2", stage, len(all))
			continue
		}
		const path = "/var/lib/lotse/volumes/uploads/kept"
		wrote, err := all[0].Exec(c.t.Context(), "echo kept > "+path)
		read, err2 := all[1].Exec(c.t.Context(), "cat "+path)
		if err != nil || err2 != nil || read.Stdout != "kept\n" {
			c.t.Errorf("what one instance wrote the other reads as %q: %v %v %s%s", read.Stdout, err, err2, wrote.Stderr, read.Stderr)
		}
	}
}

// patiently deploys what takes long to build where no cache knows it.
func (m *machine) patiently(repo string) {
	m.t.Helper()
	id := strings.TrimSpace(m.must(repo, "deploy", "--detach"))
	m.await("the rollout has ended", 15*time.Minute, func() bool {
		r, err := m.api.Rollout(m.t.Context(), id)
		return err == nil && r.Outcome.Ended()
	})
	m.must(repo, "follow", id)
}
