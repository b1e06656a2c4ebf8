package e2e_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
)

// cloud is a machine whose stages are on AWS, which is a FAKE (package awsfake): it runs real processes behind real balancers, and what is
// shown here is not shown of AWS.
type cloud struct {
	*machine
	world *awsfake.World
}

// hurried is lotse with the pace of the fake in place of Amazon's: between two looks it waits for a third of a second, not for three. It is
// told nothing else that a user could not tell it.
var hurried = builtWith("fakepace")

// newCloud opens an account and a machine that has its credentials. The controller does not run yet, and there is no stack.
func newCloud(t *testing.T) *cloud { return newCloudWith(t, nil) }

// newCloudWith is newCloud with what instances find under some URLs.
func newCloudWith(t *testing.T, downloads map[string][]byte) *cloud {
	t.Helper()
	c := cloudOf(t, awsfake.Options{Plane: true, HealthTimeout: 20 * time.Second, RecordTTL: 200 * time.Millisecond, Downloads: downloads})
	authority := filepath.Join(c.work, "authority.pem")
	if err := os.WriteFile(authority, c.world.Plane().AuthorityPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	c.env = append(c.env, "SSL_CERT_FILE="+authority, "ALL_PROXY=socks5://"+socks(t, c.world.Dialer()))
	return c
}

// cloudOf is newCloud with an account of one's own. Without a plane nothing can run there.
func cloudOf(t *testing.T, options awsfake.Options) *cloud {
	t.Helper()
	lotse, err := hurried()
	if err != nil {
		t.Fatal(err)
	}
	world := awsfake.Open(t, options)
	c := &cloud{machineIn(t, folder(t)), world}
	c.bin.lotse = lotse
	t.Cleanup(c.instancesSaid)
	c.env = []string{"AWS_ENDPOINT_URL=" + world.Endpoint(), "AWS_ACCESS_KEY_ID=AKIDFAKE", "AWS_SECRET_ACCESS_KEY=fake", "AWS_REGION=" + world.Region(),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + filepath.Join(c.work, "none"), "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(c.work, "none")}
	return c
}

// instancesSaid shows what the instances that failed to launch have said, where a test failed.
func (c *cloud) instancesSaid() {
	if !c.t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(os.TempDir(), c.t.Name()+"*", "*", "i-*", "var/log/eb-engine.log"))
	for _, log := range logs {
		if raw, err := os.ReadFile(log); err == nil && strings.Contains(string(raw), "ERROR") {
			c.t.Logf("%s:\n%s", log, raw[max(0, len(raw)-2000):])
		}
	}
}

// socks is a proxy (RFC 1928, CONNECT without authentication) through which a program reaches the hosts of a world. It gives its address.
func socks(t *testing.T, dial func(context.Context, string, string) (net.Conn, error)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var at sync.WaitGroup
	at.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			at.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				_ = carry(ctx, c, dial) // a client that is told nothing finds its connection closed
			})
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); at.Wait() })
	return l.Addr().String()
}

// carry serves one connection of the proxy.
func carry(ctx context.Context, c net.Conn, dial func(context.Context, string, string) (net.Conn, error)) error {
	address, err := wanted(c)
	if err != nil {
		return err
	}
	to, err := dial(ctx, "tcp", address)
	if err != nil {
		_, says := c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0}) // host unreachable
		return errors.Join(err, says)
	}
	defer to.Close()
	if _, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	back := make(chan struct{})
	go func() { defer close(back); _, _ = io.Copy(c, to); c.Close() }()
	_, err = io.Copy(to, c)
	to.Close()
	<-back
	return err
}

// wanted reads the greeting and the request, whose host is a name (type 3) or an address.
func wanted(c net.Conn) (string, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(c, make([]byte, head[1])); err != nil {
		return "", err
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	request := make([]byte, 5)
	if _, err := io.ReadFull(c, request); err != nil {
		return "", err
	}
	length := map[byte]int{1: 3, 3: int(request[4]), 4: 15}[request[3]] // of what is left of the host
	rest := make([]byte, length+2)
	if _, err := io.ReadFull(c, rest); err != nil || request[1] != 1 {
		return "", fmt.Errorf("no CONNECT: %w", err)
	}
	host := string(rest[:length])
	if request[3] != 3 {
		host = net.IP(append([]byte{request[4]}, rest[:length]...)).String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(rest[length:])))), nil
}

// onAWSNow turns a file of stages on this machine into one of stages on AWS: a line each, with hosts of a zone.
func onAWSNow(file, app string) string {
	zone := app + ".example"
	return strings.ReplaceAll(strings.ReplaceAll(file, "."+app+".localhost", "."+zone), "{ url: https://", "{ engine: aws, url: https://") + "aws: { zone: " + zone + " }\n"
}

// begin makes a repository with what `lotse infra apply` needs and makes the infrastructure, then starts the controller.
func (c *cloud) begin(app string, files map[string]string) string {
	c.t.Helper()
	c.world.Zone(app + ".example")
	repo := c.repository(files)
	c.must(repo, "infra", "apply", "--yes")
	c.serve()
	return repo
}

// hostIn is a stage's host on AWS.
func hostIn(app, stage string) string { return stage + "." + app + ".example" }

// browser is a client of the internet.
func (c *cloud) browser() *http.Client {
	t := &http.Transport{DialContext: c.world.Dialer(), TLSClientConfig: c.world.TLS(), ForceAttemptHTTP2: true}
	c.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// asked is what a host answers to a GET.
func (c *cloud) asked(host, path string) (code int, body string) {
	c.t.Helper()
	answer, err := c.browser().Get("https://" + host + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode, bodyOf(c.t, answer)
}

// releaseOn is the release that the app of a stage says it is.
func (c *cloud) releaseOn(stage string) string {
	c.t.Helper()
	code, body := c.asked(hostIn("road", stage), "/about")
	var about load.About
	if err := json.Unmarshal([]byte(body), &about); err != nil || code != http.StatusOK || about.Stage != stage {
		c.t.Fatalf("%s answers %d: %v, %s", stage, code, err, body)
	}
	return about.Release
}

// everybody is load of every kind on a host.
func (c *cloud) everybody(host string) *load.Hammer {
	c.t.Helper()
	p := c.everyKind()
	p.URL, p.Dial, p.TLS, p.Pause = "https://"+host, c.world.Dialer(), c.world.TLS(), 50*time.Millisecond // the fake's balancer costs time of its own
	return c.loaded(p)
}

// rollouts are those of a stage, the newest first.
func (c *cloud) rollouts(stage string) []deploy.Rollout {
	c.t.Helper()
	all, err := c.api.History(c.t.Context(), "", stage, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

// environments are those of the account that are not gone, by their names.
func (c *cloud) environments() map[string]ebtypes.EnvironmentDescription {
	c.t.Helper()
	out, err := eb.NewFromConfig(c.world.Config("")).DescribeEnvironments(c.t.Context(), &eb.DescribeEnvironmentsInput{IncludeDeleted: sdk.Bool(false)})
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]ebtypes.EnvironmentDescription{}
	for _, e := range out.Environments {
		if e.Status != ebtypes.EnvironmentStatusTerminated {
			all[*e.EnvironmentName] = e
		}
	}
	return all
}

// tags of an environment or a version.
func (c *cloud) tags(arn *string) map[string]string {
	c.t.Helper()
	out, err := eb.NewFromConfig(c.world.Config("")).ListTagsForResource(c.t.Context(), &eb.ListTagsForResourceInput{ResourceArn: arn})
	if _, gone := errors.AsType[*ebtypes.ResourceNotFoundException](err); gone {
		return nil // it was ended since it was listed
	}
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]string{}
	for _, tag := range out.ResourceTags {
		all[*tag.Key] = *tag.Value
	}
	return all
}

// holdings is everything in the account that rollouts of the app have made: environments, versions, rules and target groups, each with whose
// it is. The rule of a stage is of no rollout.
func (c *cloud) holdings(stack string) []string {
	c.t.Helper()
	var all []string
	for _, e := range c.environments() {
		of := c.tags(e.EnvironmentArn)
		all = append(all, "environment "+of["lotse:stage"]+" "+of["lotse:rollout"])
	}
	versions, err := eb.NewFromConfig(c.world.Config("")).DescribeApplicationVersions(c.t.Context(), &eb.DescribeApplicationVersionsInput{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, v := range versions.ApplicationVersions {
		of := c.tags(v.ApplicationVersionArn)
		all = append(all, "version "+of["lotse:stage"]+" "+of["lotse:rollout"])
	}
	slices.Sort(all)
	return append(all, c.traffic(stack)...)
}

// traffic is what of rollouts is at the load balancer.
func (c *cloud) traffic(stack string) (all []string) {
	c.t.Helper()
	client := elb.NewFromConfig(c.world.Config(""))
	rules, err := client.DescribeRules(c.t.Context(), &elb.DescribeRulesInput{ListenerArn: sdk.String(c.world.Physical(c.world.Region(), stack, "Listener"))})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range rules.Rules {
		tags, err := client.DescribeTags(c.t.Context(), &elb.DescribeTagsInput{ResourceArns: []string{*r.RuleArn}})
		if err != nil {
			c.t.Fatal(err)
		}
		of := map[string]string{}
		for _, tag := range tags.TagDescriptions[0].Tags {
			of[*tag.Key] = *tag.Value
		}
		if of["lotse:rollout"] != "" {
			all = append(all, "rule "+of["lotse:stage"]+" "+of["lotse:rollout"])
		}
	}
	groups, err := client.DescribeTargetGroups(c.t.Context(), &elb.DescribeTargetGroupsInput{})
	if err != nil {
		c.t.Fatal(err)
	}
	slices.Sort(all)
	return append(all, fmt.Sprintf("target groups: %d", len(groups.TargetGroups)))
}

// only wants that the account holds what these rollouts need, and nothing else. What is being ended is waited for.
func (c *cloud) only(running ...deploy.Rollout) {
	c.t.Helper()
	var want []string
	for _, kind := range []string{"environment", "version", "rule"} {
		var of []string
		for _, r := range running {
			of = append(of, kind+" "+r.Stage.Stage+" "+r.ID)
		}
		slices.Sort(of)
		want = append(want, of...)
	}
	want = append(want, fmt.Sprintf("target groups: %d", len(running)))
	var have []string
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for have = c.holdings("lotse-road"); !slices.Equal(have, want); have = c.holdings("lotse-road") {
		if time.Now().After(deadline) {
			c.t.Fatalf("the account holds\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
		<-tick.C
	}
}

// unpacked compares the files on every instance of a rollout with the manifest of its release: the one that was fitted to the values of the
// stage, where it has public ones.
func (c *cloud) unpacked(r deploy.Rollout) {
	c.t.Helper()
	compared := 0
	for name, e := range c.environments() {
		of := c.tags(e.EnvironmentArn)
		if of["lotse:rollout"] != r.ID {
			continue
		}
		release, err := c.api.Release(c.t.Context(), deploy.Digest(of["lotse:release"]))
		if err != nil || release.Source() != r.Release {
			c.t.Fatalf("%s has the release %s, which is %s fitted; want %s (%v)", name, of["lotse:release"], release.Source(), r.Release, err)
		}
		for _, i := range c.world.Instances(name) {
			for _, f := range release.Manifest.Files {
				compared++
				raw, err := os.ReadFile(filepath.Join(i.Folder(), "var/app/current", f.Path))
				if got := deploy.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(raw))); err != nil || got != f.Digest {
					c.t.Errorf("%s on %s: %s, want %s (%v)", f.Path, i.ID(), got, f.Digest, err)
				}
			}
		}
	}
	if compared == 0 {
		c.t.Errorf("%s has no machines, or no files: nothing was compared", r.ID)
	}
}

// tally counts the calls since the last one, in the table under a name.
type tally struct {
	columns []string
	counts  map[string]map[string]int // by call, by column
}

func (n *tally) take(c *cloud, column string) {
	if n.counts == nil {
		n.counts = map[string]map[string]int{}
	}
	for slices.Contains(n.columns, column) {
		column += " again"
	}
	n.columns = append(n.columns, column)
	for _, call := range c.world.Calls() {
		key := call.Service + ":" + call.Action
		if n.counts[key] == nil {
			n.counts[key] = map[string]int{}
		}
		n.counts[key][column]++
	}
	c.world.ForgetCalls()
}

func (n *tally) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "API calls\t"+strings.Join(n.columns, "\t")+"\t")
	sums := map[string]int{}
	for _, key := range slices.SortedFunc(maps.Keys(n.counts), cmp.Compare[string]) {
		fmt.Fprint(w, key)
		for _, column := range n.columns {
			sums[column] += n.counts[key][column]
			fmt.Fprintf(w, "\t%d", n.counts[key][column])
		}
		fmt.Fprintln(w, "\t")
	}
	fmt.Fprint(w, "in all")
	for _, column := range n.columns {
		fmt.Fprintf(w, "\t%d", sums[column])
	}
	fmt.Fprintln(w, "\t")
	w.Flush()
	return b.String()
}
