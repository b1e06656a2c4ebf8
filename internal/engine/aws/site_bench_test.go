package aws_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/engine/enginetest"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// shelf is an account with the stack of an app of files alone. S3 and CloudFront are FAKES (package awsfake); the edge of the fake keeps every
// answer until an invalidation is complete.
type shelf struct {
	t      *testing.T
	w      *awsfake.World
	log    *logBuffer
	stages [2]deploy.Stage
	at     [2]string // distributions

	mu    sync.Mutex
	files map[deploy.Digest]fs.FS
}

const pagesProgram = `const host = "HOST";
const services = SERVICES; // longest path first
`

// oneService is at the root, without a fallback.
const oneService = `[{"path":"/"}]`

func siteBucket(stage string) string { return "lotse-shop-" + stage + "-site-123456789012" }

func newShelf(t *testing.T, services string) *shelf {
	t.Helper()
	c := &shelf{t: t, log: &logBuffer{}, files: map[deploy.Digest]fs.FS{}, w: awsfake.Open(t, awsfake.Options{Plane: true, RecordTTL: 200 * time.Millisecond})}
	outputs := map[string]string{"Releases": "shop-releases", "Key": "arn:aws:kms:eu-central-1:123456789012:key/1"}
	for i, name := range []string{"dev", "prod"} {
		host := map[string]string{"dev": "dev.shop.example", "prod": "shop.example"}[name]
		c.stages[i] = deploy.Stage{Name: name, URL: "https://" + host, Engine: "aws", Redirects: []string{"https://www." + host},
			AWS: deploy.AWS{Region: c.w.Region(), Account: c.w.Account(), Static: true}}
		c.w.Bucket(siteBucket(name))
		c.at[i] = c.w.Distribution(&awsfake.Distribution{Bucket: siteBucket(name), Hosts: []string{host, "www." + host}, Root: "index.html", Denied: []string{".lotse/"},
			Program: strings.NewReplacer("HOST", host, "SERVICES", services).Replace(pagesProgram),
			Headers: map[string]string{"Strict-Transport-Security": "max-age=31536000", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "strict-origin-when-cross-origin"}})
		for _, h := range []string{host, "www." + host} {
			c.w.Record(h, awsfake.DistributionName(c.at[i]))
		}
		camel := strings.ToUpper(name[:1]) + name[1:]
		outputs[camel+"Site"], outputs[camel+"Distribution"] = siteBucket(name), c.at[i]
	}
	c.w.Stack("lotse-shop", outputs)
	return c
}

func (c *shelf) config(s deploy.Stage) aws.Config {
	return aws.Config{App: enginetest.App, Stage: s, AWS: c.w.Config(""), Dial: c.w.Dialer(), TLS: c.w.TLS(), Log: slog.New(slog.NewTextHandler(c.log, nil)), Timing: timing(),
		Files: func(_ context.Context, r deploy.Release) (fs.FS, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.files[r.ID], nil
		}}
}

func (c *shelf) open(t enginetest.T, s deploy.Stage) *aws.Site {
	e, err := aws.OpenSite(c.config(s))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return e
}

// release makes one of services with files below their folders, with the indexes that the pipeline makes.
func (c *shelf) release(t enginetest.T, tag string, files func(short string) map[string]string, services ...deploy.Service) deploy.Release {
	m := deploy.Manifest{Format: 1, App: enginetest.App, Commit: tag, Services: services}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := deploy.Release{ID: deploy.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(raw))), Manifest: m}
	all := fstest.MapFS{}
	for name, text := range files(r.ID.Short()) {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for _, s := range services {
		if s.Static == "" {
			continue
		}
		in, err := fs.Sub(all, s.Static)
		if err != nil {
			t.Fatalf("%v", err)
		}
		index, err := proxy.BuildIndex(in, s.Immutable)
		if err != nil {
			t.Fatalf("%v", err)
		}
		raw, _ := json.Marshal(index)
		all[".lotse/static/"+s.Name+".json"] = &fstest.MapFile{Data: raw}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[r.ID] = all
	return r
}

var web1 = deploy.Service{Name: "web", Static: "dist", Path: "/"}

// kind makes the releases of the suite.
func (c *shelf) kind(t enginetest.T, kind enginetest.Kind, tag string, _ int) deploy.Release {
	r := c.release(t, string(kind)+" "+tag, func(short string) map[string]string {
		about, _ := json.Marshal(load.About{Release: short, Service: "web", Boot: short})
		files := map[string]string{"dist/index.html": "<script src=/assets/" + tag + "-0a1b2c3d.js></script>", "dist/get.html": short, "dist/get.html.br": "smaller", "dist/about.html": string(about),
			"dist/assets/app-4f3a91c2.js": "app", "dist/assets/" + tag + "-0a1b2c3d.js": "of " + tag}
		if kind == enginetest.Crash {
			files["dist/assets/app-4f3a91c2.js"] = "other bytes under the same name"
		}
		return files
	}, web1)
	if kind == enginetest.Hang {
		c.w.Inject(awsfake.Fault{Service: "s3", Action: "PutObject", Resource: fmt.Sprintf("%x", sha256.Sum256([]byte(r.ID.Short()))), Times: -1, Hang: true})
	}
	return r
}

func (c *shelf) bench() enginetest.Bench {
	return enginetest.Bench{
		Static: true, Stages: c.stages, Start: time.Second, Slack: 10 * time.Second,
		Open:    func(t enginetest.T, s deploy.Stage) deploy.Engine { return c.open(t, s) },
		Release: c.kind, Plan: func(s deploy.Stage) load.Plan { return load.Plan{URL: s.URL, TLS: c.w.TLS(), Dial: c.w.Dialer()} },
		Break: c.lose, Outage: c.outage, Previous: c.previous, Leftovers: c.leftovers, Written: c.written,
		NotRun: map[int]string{
			3:  "files have no program that could crash, hang or listen elsewhere; TestSiteCannotStart shows what S3 never takes",
			7:  "files have no connections that could drain; TestSiteStop shows what a stop takes away and what it leaves",
			10: "files are given no setting; TestSiteTellsNoSetting shows that none is kept",
		},
	}
}

func (c *shelf) s3() *s3.Client {
	return s3.NewFromConfig(c.w.Config(""), func(o *s3.Options) { o.UsePathStyle = true })
}

// aside is where a file is put of a rollout before it is served.
func (c *shelf) aside(t enginetest.T, s deploy.Stage, rollout, path string) string {
	m := c.manifests(t, s)[rollout]
	for _, f := range m.Files {
		if f.Path == path {
			return ".lotse/files/" + strings.TrimPrefix(f.Digest, "sha256:")
		}
	}
	t.Fatalf("%s has no %s", rollout, path)
	return ""
}

// lose deletes a file of a rollout, as somebody does who cleans up.
func (c *shelf) lose(t enginetest.T, s deploy.Stage, rollout, _ string, _ int) func() {
	key := c.aside(t, s, rollout, "get.html")
	was := c.w.Object(siteBucket(s.Name), key)
	if was == nil {
		t.Fatalf("%s is not there", key)
	}
	c.w.RemoveObject(siteBucket(s.Name), key)
	return func() { c.write(t, s, key, was) }
}

func (c *shelf) write(t enginetest.T, s deploy.Stage, key string, data []byte) {
	_, err := c.s3().PutObject(t.Context(), &s3.PutObjectInput{Bucket: sdk.String(siteBucket(s.Name)), Key: &key, Body: bytes.NewReader(data)})
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func (c *shelf) outage(enginetest.T, deploy.Stage) func() {
	c.w.Inject(awsfake.Fault{Times: -1, Drop: true})
	return c.w.Heal
}

// manifest is what package bucket keeps of a rollout, as its format 1 has it.
type manifest struct {
	Format  int             `json:"format"`
	ID      string          `json:"id"`
	Since   time.Time       `json:"since"`
	Whole   bool            `json:"whole"`
	Removed *time.Time      `json:"removed"`
	About   json.RawMessage `json:"about"`
	Files   []struct {
		Path      string `json:"path"`
		Digest    string `json:"digest"`
		Immutable bool   `json:"immutable"`
	} `json:"files"`
}

func (c *shelf) keys(t enginetest.T, s deploy.Stage) (keys []string) {
	out, err := c.s3().ListObjectsV2(context.WithoutCancel(t.Context()), &s3.ListObjectsV2Input{Bucket: sdk.String(siteBucket(s.Name))})
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, o := range out.Contents {
		keys = append(keys, *o.Key)
	}
	return keys
}

func (c *shelf) manifests(t enginetest.T, s deploy.Stage) map[string]manifest {
	all := map[string]manifest{}
	for _, key := range c.keys(t, s) {
		if !strings.HasPrefix(key, ".lotse/releases/") {
			continue
		}
		var m manifest
		if err := json.Unmarshal(unpacked(t, c.w.Object(siteBucket(s.Name), key)), &m); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		all[m.ID] = m
	}
	return all
}

func unpacked(t enginetest.T, packed []byte) []byte {
	in, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatalf("%v", err)
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return raw
}

// leftovers are objects that no rollout needs, neither one that runs nor one whose tabs may still be open.
func (c *shelf) leftovers(t enginetest.T, s deploy.Stage, running []deploy.Running) (left []string) {
	runs, needed := map[string]bool{}, map[string]bool{".lotse/serving.json": true}
	for _, r := range running {
		runs[r.Rollout] = true
	}
	for id, m := range c.manifests(t, s) {
		if !runs[id] && m.Removed == nil {
			left = append(left, "manifest of "+id)
		}
		needed[".lotse/releases/"+id+".json.gz"] = true
		for _, f := range m.Files {
			needed[f.Path], needed[".lotse/files/"+strings.TrimPrefix(f.Digest, "sha256:")] = true, true
		}
	}
	for _, key := range c.keys(t, s) {
		if !needed[key] {
			left = append(left, key)
		}
	}
	return left
}

// written is all that is kept of a stage, beside the files of its app.
func (c *shelf) written(t enginetest.T) string {
	all := c.log.String()
	for _, s := range c.stages {
		for _, m := range c.manifests(t, s) {
			all += string(m.About)
		}
		all += string(c.w.Object(siteBucket(s.Name), ".lotse/serving.json"))
	}
	return all
}

// previous puts a rollout into the bucket as the first version left it.
func (c *shelf) previous(t enginetest.T, s deploy.Stage) deploy.Running {
	raw, err := os.ReadFile("testdata/site-1.json")
	if err != nil {
		t.Fatalf("%v", err)
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%v", err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(raw)
	_ = w.Close()
	c.write(t, s, ".lotse/releases/before.json.gz", packed.Bytes())
	page := []byte("before\n")
	c.write(t, s, ".lotse/files/"+fmt.Sprintf("%x", sha256.Sum256(page)), page)
	c.write(t, s, "index.html", page)
	c.write(t, s, ".lotse/serving.json", []byte(`{"format":1,"release":"before","rollout":"before","fence":1,"since":"2026-11-01T10:05:00Z"}`))
	return deploy.Running{Rollout: "before", Release: deploy.Digest("sha256:" + strings.Repeat("ab", 32)), Share: 100, Since: m.Since, Services: []deploy.RunningService{{Name: "web"}}}
}

// TestContractSite proves the contract for files alone.
func TestContractSite(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Bench { return newShelf(t, oneService).bench() })
}

// get asks a host of the first stage as a browser does, on a new connection, and follows nothing.
func (c *shelf) get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	tr := &http.Transport{DialContext: c.w.Dialer(), TLSClientConfig: c.w.TLS(), DisableKeepAlives: true}
	return through(t, tr, url)
}

func through(t *testing.T, rt http.RoundTripper, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, 20*time.Second), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}
