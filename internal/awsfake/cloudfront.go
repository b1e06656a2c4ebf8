package awsfake

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
)

// Distribution is one distribution of CloudFront as far as Lotse's templates make them: one bucket, one function before it, one policy of
// headers. With Options.Plane it serves its hosts.
type Distribution struct {
	Bucket  string
	Hosts   []string
	Root    string            // DefaultRootObject
	Program string            // of the function for viewer requests, as the template has it; see pages
	Headers map[string]string // of the policy
	Denied  []string          // beginnings of keys that the bucket's policy keeps from it

	id      string
	w       *World
	pages   pages
	ends    func()
	mu      sync.Mutex
	kept    map[string]keptAnswer // answers by path
	batches map[string]*invalidation
}

type keptAnswer struct {
	status int
	header http.Header
	body   []byte
}

// invalidation is one batch. Until it is completed, edges answer as before.
type invalidation struct {
	id, reference string
	paths         []string
	made          time.Time
	done          bool
}

// Distribution makes one and gives its id; its DNS name is the id in small letters before .cloudfront.net.
func (w *World) Distribution(d *Distribution) (id string) {
	id = "E" + strings.ToUpper(newHex(13))
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.distribute(id, d); err != nil {
		w.t.Errorf("awsfake: %v", err)
	}
	return id
}

// DistributionName is the DNS name of a distribution.
func DistributionName(id string) string { return strings.ToLower(id) + ".cloudfront.net" }

// distribute makes d the distribution id. The caller holds mu.
func (w *World) distribute(id string, d *Distribution) error {
	program, err := readPages(d.Program)
	if err != nil {
		return err
	}
	d.id, d.w, d.pages, d.kept, d.batches = id, w, program, map[string]keptAnswer{}, map[string]*invalidation{}
	if w.distributions == nil {
		w.distributions = map[string]*Distribution{}
	}
	if old := w.distributions[id]; old != nil && old.ends != nil {
		old.ends()
	}
	w.distributions[id] = d
	if p := w.Plane(); p != nil {
		d.ends, err = p.NewEdge(plane.EdgeOptions{Name: DistributionName(id), Hosts: d.Hosts, TTL: w.options.RecordTTL, Handler: d})
	}
	return err
}

// undistribute takes one away. The caller holds mu.
func (w *World) undistribute(id string) {
	if d := w.distributions[id]; d != nil && d.ends != nil {
		w.later(func(context.Context) { d.ends() })
	}
	delete(w.distributions, id)
}

// distribution reads one out of a stack, with the function and the policy of headers that it names.
func (s *stack) distribution(r *stackResource) *Distribution {
	config := object(r.properties["DistributionConfig"])
	d := &Distribution{Root: str(config["DefaultRootObject"]), Headers: map[string]string{}}
	for _, host := range list(config["Aliases"]) {
		d.Hosts = append(d.Hosts, str(host))
	}
	for _, origin := range list(config["Origins"]) {
		d.Bucket, _, _ = strings.Cut(str(object(origin)["DomainName"]), ".")
	}
	behavior := object(config["DefaultCacheBehavior"])
	named := map[string]bool{str(behavior["ResponseHeadersPolicyId"]): true}
	for _, function := range list(behavior["FunctionAssociations"]) {
		named[str(object(function)["FunctionARN"])] = true
	}
	for _, other := range s.resources {
		switch {
		case !named[other.physical]:
		case other.kind == "AWS::CloudFront::Function":
			d.Program = str(other.properties["FunctionCode"])
		case other.kind == "AWS::CloudFront::ResponseHeadersPolicy":
			d.Headers = headersOf(object(object(other.properties["ResponseHeadersPolicyConfig"])["SecurityHeadersConfig"]))
		}
	}
	return d
}

// headersOf are the headers of a policy.
func headersOf(config map[string]any) map[string]string {
	all := map[string]string{}
	if hsts := object(config["StrictTransportSecurity"]); len(hsts) > 0 {
		all["Strict-Transport-Security"] = "max-age=" + str(hsts["AccessControlMaxAgeSec"])
	}
	if len(object(config["ContentTypeOptions"])) > 0 {
		all["X-Content-Type-Options"] = "nosniff"
	}
	if frame := str(object(config["FrameOptions"])["FrameOption"]); frame != "" {
		all["X-Frame-Options"] = frame
	}
	if referrer := str(object(config["ReferrerPolicy"])["ReferrerPolicy"]); referrer != "" {
		all["Referrer-Policy"] = referrer
	}
	return all
}

// deny keeps the distribution of a bucket from what its policy denies to CloudFront. Of policies nothing else is looked at. The caller
// holds mu.
func (w *World) deny(bucket string, policy map[string]any) {
	var begins []string
	for _, one := range list(policy["Statement"]) {
		statement := object(one)
		if str(statement["Effect"]) != "Deny" || str(object(statement["Principal"])["Service"]) != "cloudfront.amazonaws.com" {
			continue
		}
		if _, key, ok := strings.Cut(str(statement["Resource"]), "/"); ok {
			begins = append(begins, strings.TrimSuffix(key, "*"))
		}
	}
	for _, d := range w.distributions {
		if d.Bucket == bucket {
			d.mu.Lock()
			d.Denied = begins
			d.mu.Unlock()
		}
	}
}

const cloudfrontNamespace = "http://cloudfront.amazonaws.com/doc/2020-05-31/"

// invalidationBatch is what CreateInvalidation takes. Any further element is an error.
type invalidationBatch struct {
	XMLName xml.Name `xml:"http://cloudfront.amazonaws.com/doc/2020-05-31/ InvalidationBatch"`
	Paths   struct {
		Quantity int
		Items    struct{ Path []string }
		Unknown  []anyElement `xml:",any"`
	}
	CallerReference string
	Unknown         []anyElement `xml:",any"`
}

type anyElement struct{ XMLName xml.Name }

// serveCloudFront knows CreateInvalidation, GetInvalidation and GetDistribution, in REST XML.
func (w *World) serveCloudFront(rw http.ResponseWriter, r *http.Request, region string) {
	rest, _ := strings.CutPrefix(r.URL.Path, "/2020-05-31/distribution/")
	id, rest, _ := strings.Cut(rest, "/")
	action := map[string]string{"GET ": "GetDistribution", "POST invalidation": "CreateInvalidation"}[r.Method+" "+rest]
	batch, one := strings.CutPrefix(rest, "invalidation/")
	if r.Method == http.MethodGet && one {
		action = "GetInvalidation"
	}
	w.mu.Lock()
	call := w.record(Call{Service: "cloudfront", Action: action, Resource: id, Region: region})
	fault, d := w.strikes(call), w.distributions[id]
	w.mu.Unlock()
	s := &service{name: "cloudfront", namespace: cloudfrontNamespace}
	var out any
	err := error(&apiError{Code: "NoSuchDistribution", Message: "The specified distribution does not exist.", HTTP: http.StatusNotFound})
	status := http.StatusOK
	switch {
	case fault != nil && !fault.Done:
	case action == "":
		err = &apiError{Code: "InvalidAction", Message: "the fake has no " + r.Method + " " + r.URL.Path}
	case d == nil:
	case action == "CreateInvalidation":
		status = http.StatusCreated
		out, err = d.invalidate(r)
	case action == "GetInvalidation":
		out, err = d.batch(batch)
	default:
		out, err = d.describe(), nil
	}
	switch {
	case fault != nil:
		w.strike(rw, r, s, query, fault, call)
	case err != nil:
		w.setErr(call, codeOf(err))
		w.answerError(rw, s, query, err)
	default:
		rw.Header().Set("Content-Type", "text/xml")
		rw.WriteHeader(status)
		_ = xml.NewEncoder(rw).Encode(out)
	}
}

// invalidate begins a batch. The same reference with the same paths is the batch that was made before.
func (d *Distribution) invalidate(r *http.Request) (any, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refuse("MalformedInput", "the body was cut off")
	}
	var in invalidationBatch
	if err := xml.Unmarshal(raw, &in); err != nil || len(in.Unknown)+len(in.Paths.Unknown) > 0 {
		return nil, refuse("MalformedInput", "Could not parse InvalidationBatch: %v", err)
	}
	paths := in.Paths.Items.Path
	switch {
	case in.CallerReference == "" || len(paths) == 0 || in.Paths.Quantity != len(paths):
		return nil, refuse("InconsistentQuantities", "The value of Quantity and the size of Items don't match.")
	case len(paths) > 3000:
		return nil, refuse("BatchTooLarge", "Invalidation batch specified is too large.")
	case slices.ContainsFunc(paths, func(p string) bool { return !strings.HasPrefix(p, "/") || strings.ContainsAny(p, " \"<>") }):
		return nil, refuse("InvalidArgument", "Your request contains one or more invalid invalidation paths.")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.batches {
		if b.reference != in.CallerReference {
			continue
		}
		if !slices.Equal(b.paths, paths) {
			return nil, refuse("InvalidArgument", "Your caller reference is associated with another invalidation batch.") // words ours
		}
		return b.xml(), nil
	}
	b := &invalidation{id: "I" + strings.ToUpper(newHex(13)), reference: in.CallerReference, paths: paths, made: time.Now()}
	d.batches[b.id] = b
	d.w.later(func(ctx context.Context) {
		if wait(ctx, d.w.options.Invalidation) {
			d.complete(b)
		}
	})
	return b.xml(), nil
}

// complete makes edges forget.
func (d *Distribution) complete(b *invalidation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := range d.kept {
		if slices.ContainsFunc(b.paths, func(p string) bool {
			begins, all := strings.CutSuffix(p, "*")
			return unescape(p) == at || all && strings.HasPrefix(at, unescape(begins))
		}) {
			delete(d.kept, at)
		}
	}
	b.done = true
}

func (d *Distribution) batch(id string) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.batches[id]
	if b == nil {
		return nil, &apiError{Code: "NoSuchInvalidation", Message: "The specified invalidation does not exist.", HTTP: http.StatusNotFound}
	}
	return b.xml(), nil
}

func (b *invalidation) xml() any {
	status := "InProgress"
	if b.done {
		status = "Completed"
	}
	type pathList struct {
		Quantity int
		Items    []string `xml:"Items>Path"`
	}
	type batch struct {
		Paths           pathList
		CallerReference string
	}
	return struct {
		XMLName           xml.Name `xml:"http://cloudfront.amazonaws.com/doc/2020-05-31/ Invalidation"`
		ID                string   `xml:"Id"`
		Status            string
		CreateTime        string
		InvalidationBatch batch
	}{ID: b.id, Status: status, CreateTime: b.made.UTC().Format(timeFormat), InvalidationBatch: batch{pathList{len(b.paths), b.paths}, b.reference}}
}

func (d *Distribution) describe() any {
	return struct {
		XMLName    xml.Name `xml:"http://cloudfront.amazonaws.com/doc/2020-05-31/ Distribution"`
		ID         string   `xml:"Id"`
		ARN        string
		Status     string
		DomainName string
	}{ID: d.id, ARN: fmt.Sprintf("arn:aws:cloudfront::%s:distribution/%s", d.w.options.Account, d.id), Status: "Deployed", DomainName: DistributionName(d.id)}
}
