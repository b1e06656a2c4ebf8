package aws

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/front"
)

func bundling(t *testing.T, files fstest.MapFS) (*Engine, deploy.Order) {
	t.Helper()
	dir := t.TempDir()
	lotse := filepath.Join(dir, "lotse")
	if err := os.WriteFile(lotse, []byte("the program"), 0o755); err != nil {
		t.Fatal(err)
	}
	stage := deploy.Stage{Name: "dev", URL: "https://dev.shop.example", Redirects: []string{"https://www.dev.shop.example"}}
	e := &Engine{Config: Config{App: "shop", Stage: stage, Dir: filepath.Join(dir, "scratch"), Lotse: lotse, Log: slog.New(slog.DiscardHandler),
		Files: func(context.Context, deploy.Release) (fs.FS, error) { return files, nil }}, most: bundleMost, host: "dev.shop.example", others: []string{"www.dev.shop.example"}}
	e.lb = ownBalancer{e}
	m := deploy.Manifest{Format: 1, App: "shop", Services: []deploy.Service{{Name: "web", Command: "node server.js", Path: "/", Instances: 2,
		Volumes: []deploy.VolumeMount{{Volume: "photos", Path: "data/photos"}}}},
		Jobs: []deploy.Job{{Name: "sweep", Volumes: []deploy.VolumeMount{{Volume: "exports", Path: "out"}}}}}
	for name := range files {
		m.Files = append(m.Files, deploy.File{Path: name, Executable: strings.HasSuffix(name, ".sh")})
	}
	stage.Database = deploy.Database{Postgres: 17, Migrations: "db"}
	stage.Drain = 20 * time.Second
	return e, deploy.Order{Rollout: "r1", Stage: stage, Release: deploy.Release{ID: deploy.Digest("sha256:" + strings.Repeat("ab", 32)), Manifest: m},
		Settings: []deploy.Setting{{Name: "GREETING"}}}
}

func open(t *testing.T, b *bundle) map[string]*zip.File {
	t.Helper()
	z, err := zip.NewReader(b.file, b.size)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*zip.File{}
	for _, f := range z.File {
		all[f.Name] = f
	}
	return all
}

func content(t *testing.T, f *zip.File) string {
	t.Helper()
	if f == nil {
		t.Fatal("the bundle has no such file")
	}
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A bundle has the release, Lotse, and what makes the platform run them; nothing that the release says to the platform by itself.
func TestBundle(t *testing.T) {
	e, o := bundling(t, fstest.MapFS{"server.js": {Data: []byte("js")}, "run.sh": {Data: []byte("sh")}, "package.json": {Data: []byte("{}")},
		"Procfile": {Data: []byte("web: evil")}, ".ebextensions/x.config": {}, ".platform/hooks/prebuild/x.sh": {}, ".lotse/lotse.yaml": {Data: []byte("app: shop")}})
	b, err := e.bundle(t.Context(), o, &stack{volumes: "fs-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.remove()
	files := open(t, b)
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range files {
			if !yield(n) {
				return
			}
		}
	})
	want := []string{".ebextensions/lotse.config", ".lotse/bin/lotse", ".lotse/front.json", ".lotse/lotse.yaml", ".platform/hooks/prebuild/00-folders.sh", ".platform/hooks/prebuild/10-volumes.sh",
		".platform/hooks/prebuild/20-authorities.sh", ".platform/hooks/predeploy/10-migrate.sh", "Procfile", "node_modules/.lotse", "package.json", "run.sh", "server.js"}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the bundle has\n%v, want\n%v", names, want)
	}
	for _, name := range []string{".lotse/bin/lotse", "run.sh", ".platform/hooks/predeploy/10-migrate.sh"} {
		if mode := files[name].Mode(); mode.Perm() != 0o755 {
			t.Errorf("%s has the mode %s", name, mode)
		}
	}
	if files["server.js"].Mode().Perm() != 0o644 || content(t, files["Procfile"]) != "web: .lotse/bin/lotse front\n" || content(t, files[".lotse/bin/lotse"]) != "the program" {
		t.Error("files of the bundle are not what they ought to be")
	}
	var template struct {
		Resources map[string]any `yaml:"Resources"`
	}
	if err := yaml.Unmarshal([]byte(content(t, files[".ebextensions/lotse.config"])), &template); err != nil || len(template.Resources) != 2 {
		t.Errorf("the additions to the platform's template: %v %v", template, err)
	}
	volumes := content(t, files[".platform/hooks/prebuild/10-volumes.sh"])
	for _, want := range []string{"fs-1:/ /var/lib/lotse/volumes", "/var/lib/lotse/volumes/photos", "/var/lib/lotse/volumes/exports", "-o tls"} {
		if !strings.Contains(volumes, want) {
			t.Errorf("the hook does not say %q:\n%s", want, volumes)
		}
	}
}

// The same release and spec are the same bytes, whenever and in whichever order; another rollout is another bundle.
func TestBundleIsDeterministic(t *testing.T) {
	files := fstest.MapFS{"a": {Data: []byte("1"), ModTime: time.Unix(1, 0)}, "b/c": {Data: []byte("2")}, "b.sh": {Data: []byte("3")}}
	sums := map[string]bool{}
	for range 3 {
		e, o := bundling(t, files)
		rand.Shuffle(len(o.Release.Manifest.Files), func(i, j int) {
			f := o.Release.Manifest.Files
			f[i], f[j] = f[j], f[i]
		})
		b, err := e.bundle(t.Context(), o, &stack{})
		if err != nil {
			t.Fatal(err)
		}
		b.remove()
		sums[b.sum] = true
	}
	if len(sums) != 1 {
		t.Errorf("%d digests", len(sums))
	}
	e, o := bundling(t, files)
	o.Rollout = "r2"
	b, err := e.bundle(t.Context(), o, &stack{})
	if err != nil {
		t.Fatal(err)
	}
	b.remove()
	if sums[b.sum] {
		t.Error("another rollout has the same bundle, and would run under the name of the first")
	}
}

// A link stays a link.
func TestBundleLinks(t *testing.T) {
	var out bytes.Buffer
	if _, err := writeBundle(t.Context(), &out, []entry{{path: "bin/next", link: "../lib/next.js"}}, bundleMost); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if f := z.File[0]; f.Mode()&fs.ModeSymlink == 0 || content(t, f) != "../lib/next.js" {
		t.Errorf("it is %s to %q", f.Mode(), content(t, f))
	}
}

// A bundle that Elastic Beanstalk would not take is refused when that is known, and leaves no file.
func TestBundleTooLarge(t *testing.T) {
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	e, o := bundling(t, fstest.MapFS{"large.bin": {Data: noise}})
	e.most = 2 << 20
	_, err := e.bundle(t.Context(), o, &stack{})
	if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "more than 2 MB at large.bin") || deploy.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(e.Dir); err != nil || len(left) != 0 {
		t.Errorf("left in scratch: %v %v", left, err)
	}
	if bundleMost != 500<<20 {
		t.Error("Elastic Beanstalk takes 500 MB")
	}
}

// What the engine writes is what the front reads, and the other way round: the two types are of rooms that do not see each other.
func TestFrontSpec(t *testing.T) {
	e, o := bundling(t, fstest.MapFS{"server.js": {}})
	o.Stage.Private = true
	ours := e.spec(o, &stack{})
	raw, err := ours.json()
	if err != nil {
		t.Fatal(err)
	}
	var theirs front.Spec
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&theirs); err != nil {
		t.Fatalf("the front does not know it: %v", err)
	}
	back, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	var again frontSpec
	strict = json.NewDecoder(bytes.NewReader(back))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&again); err != nil {
		t.Fatalf("the front has something that the engine does not know: %v", err)
	}
	if !reflect.DeepEqual(ours, again) {
		t.Errorf("%+v\nbecomes\n%+v", ours, again)
	}
	same(t, reflect.TypeFor[frontSpec](), reflect.TypeFor[front.Spec]())
	same(t, reflect.TypeFor[frontStatus](), reflect.TypeFor[front.Status]())
	same(t, reflect.TypeFor[serviceStatus](), reflect.TypeFor[front.ServiceStatus]())
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".lotse"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, front.SpecFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := front.Read(dir); err != nil {
		t.Errorf("the front refuses it: %v", err)
	}
}

// same wants two structs with the same JSON.
func same(t *testing.T, a, b reflect.Type) {
	t.Helper()
	tags := func(of reflect.Type) (all []string) {
		for f := range of.Fields() {
			all = append(all, f.Tag.Get("json"))
		}
		slices.Sort(all)
		return all
	}
	if !slices.Equal(tags(a), tags(b)) {
		t.Errorf("%s has %v, %s has %v", a, tags(a), b, tags(b))
	}
}
