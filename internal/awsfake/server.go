package awsfake

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"
)

// service is one AWS service: its protocol and its operations.
type service struct {
	name      string // in the credential scope and in IAM
	namespace string // of its XML
	spell     naming // how JSON members are spelled; nil where it speaks no JSON
	ops       map[string]operation
}

// wire is how one request is written, and so how its answer is.
type wire int

const (
	query wire = iota
	jsonRPC
	cborRPC
)

// operation is one action with the SDK's types for its request and answer.
type operation struct {
	input, output reflect.Type
	required      []string
	run           func(c *request, input any) (any, error)
}

// request is one call as operations see it. They run with World.mu held.
type request struct {
	w      *World
	region *region
}

func (c *request) arn(service, rest string) string {
	return "arn:aws:" + service + ":" + c.region.name + ":" + c.w.options.Account + ":" + rest
}

// add makes run the operation action. Members in required must be there, as the official model says.
func add[I, O any](s *service, action string, run func(*request, *I) (*O, error), required ...string) {
	s.ops[action] = operation{
		input: reflect.TypeFor[I](), output: reflect.TypeFor[O](), required: required,
		run: func(c *request, input any) (any, error) { return run(c, input.(*I)) },
	}
}

func newService(name, namespace string, spell naming) *service {
	return &service{name: name, namespace: namespace, spell: spell, ops: map[string]operation{}}
}

func (w *World) allServices() map[string]*service {
	all := map[string]*service{}
	for _, s := range []*service{
		stsService(), beanstalkService(), balancingService(), cloudformationService(),
		ssmService(), secretsService(), logsService(), quotasService(), cloudwatchService(),
	} {
		all[s.name] = s
	}
	return all
}

// credentialScope finds region and service in a signature: AKID/20260101/eu-central-1/s3/aws4_request.
var credentialScope = regexp.MustCompile(`Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request`)

func scopeOf(r *http.Request) (region, service string, ok bool) {
	signature := r.Header.Get("Authorization")
	if presigned := r.URL.Query().Get("X-Amz-Credential"); presigned != "" {
		signature = "Credential=" + presigned
	}
	found := credentialScope.FindStringSubmatch(signature)
	if found == nil {
		return "", "", false
	}
	return found[1], found[2], true
}

func (w *World) serve(rw http.ResponseWriter, r *http.Request) {
	defer func() {
		cause := recover()
		if err, _ := cause.(error); cause != nil && !errors.Is(err, http.ErrAbortHandler) {
			w.t.Errorf("awsfake: panic: %v\n%s", cause, debug.Stack())
		}
		if cause != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	region, name, ok := scopeOf(r)
	if !ok {
		w.answerError(rw, w.services["sts"], query, &apiError{Code: "MissingAuthenticationToken", Message: "Request is missing Authentication Token", HTTP: http.StatusForbidden})
		return
	}
	if name == "s3" {
		w.serveS3(rw, r, region)
		return
	}
	if name == "route53" {
		w.serveRoute53(rw, r, region)
		return
	}
	if name == "cloudfront" {
		w.serveCloudFront(rw, r, region)
		return
	}
	if name == "rds" {
		body, _ := io.ReadAll(r.Body) // cut off: no action
		w.serveRDS(rw, r, region, body)
		return
	}
	s, there := w.services[name]
	if !there {
		http.Error(rw, "the fake has no service "+name, http.StatusNotImplemented)
		return
	}
	body, err := readBody(r)
	if err != nil {
		w.answerError(rw, s, query, refuse("MalformedInput", "the body cannot be read"))
		return
	}
	w.serveAction(rw, r, s, region, body)
}

// readBody reads a request, also a compressed one, as the SDK sends metrics.
func readBody(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(r.Body)
	}
	unpacked, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(unpacked)
}

// serveAction reads one call, lets faults have their say, carries it out and answers.
func (w *World) serveAction(rw http.ResponseWriter, r *http.Request, s *service, region string, body []byte) {
	action, form, wire := actionOf(r, body)
	op, there := s.ops[action]
	if !there {
		w.t.Logf("awsfake: %s has no operation %q", s.name, action)
		w.answerError(rw, s, wire, &apiError{Code: "InvalidAction", Message: "Could not find operation " + action + " in the fake", HTTP: http.StatusBadRequest})
		return
	}
	input := reflect.New(op.input).Interface()
	err := s.read(form, body, wire, input)
	if err == nil {
		err = op.checkRequired(input)
	}
	w.mu.Lock()
	call := w.record(Call{Service: s.name, Action: action, Resource: resourceOf(input), Region: region, instance: strings.Contains(r.Header.Get("Authorization"), instanceKey)})
	fault := w.strikes(call)
	var output any
	w.takeLines()
	if err == nil && (fault == nil || fault.Done) {
		output, err = op.run(&request{w: w, region: w.in(region)}, input)
	}
	w.mu.Unlock()
	w.log(call, err)
	if fault != nil {
		w.strike(rw, r, s, wire, fault, call)
		return
	}
	if err != nil {
		w.setErr(call, codeOf(err))
		w.answerError(rw, s, wire, err)
		return
	}
	w.answer(rw, s, action, output, wire)
}

// actionOf reads which operation is meant: a form's Action, the X-Amz-Target of JSON, or the path of RPC v2 CBOR.
func actionOf(r *http.Request, body []byte) (action string, form url.Values, wire wire) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndex(target, ".")+1:], nil, jsonRPC
	}
	if _, operation, ok := strings.Cut(r.URL.Path, "/operation/"); ok {
		return operation, nil, cborRPC
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil, query
	}
	if len(form) == 0 {
		form = r.URL.Query()
	}
	return form.Get("Action"), form, query
}

func (s *service) read(form url.Values, body []byte, wire wire, into any) error {
	switch wire {
	case cborRPC:
		return readCBOR(body, into)
	case query:
		return readForm(form, into)
	default:
		return readJSON(body, s.spell, into)
	}
}

func (op operation) checkRequired(input any) error {
	v := reflect.Indirect(reflect.ValueOf(input))
	for _, name := range op.required {
		field := v.FieldByName(name)
		if empty(field) || (field.Kind() == reflect.Int32 && field.IsZero()) {
			return refuse("ValidationError", "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must not be null", lowered(name))
		}
	}
	return nil
}

// strike carries out a fault in place of an answer.
func (w *World) strike(rw http.ResponseWriter, r *http.Request, s *service, wire wire, fault *Fault, call *Call) {
	switch refusal := w.refusal(fault, call); {
	case fault.Hang:
		w.setErr(call, "Hang")
		select {
		case <-r.Context().Done():
		case <-w.ctx.Done():
		}
		panic(http.ErrAbortHandler)
	case fault.Drop || refusal == nil:
		w.setErr(call, "Drop")
		panic(http.ErrAbortHandler)
	default:
		w.setErr(call, refusal.Code)
		if s == nil {
			answerS3Error(rw, r, refusal)
			return
		}
		w.answerError(rw, s, wire, refusal)
	}
}

func (w *World) setErr(call *Call, code string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	call.Err = code
}

func (w *World) log(call *Call, err error) {
	w.options.Log.Debug("awsfake", "service", call.Service, "action", call.Action, "resource", call.Resource, "err", err)
}

func codeOf(err error) string {
	if refusal, ok := errors.AsType[*apiError](err); ok {
		return refusal.Code
	}
	return "InternalFailure"
}

// refusalOf is an error as AWS would tell it: what is no refusal is a failure of its own.
func refusalOf(err error) *apiError {
	if refusal, ok := errors.AsType[*apiError](err); ok {
		return refusal
	}
	return &apiError{Code: "InternalFailure", Message: err.Error(), HTTP: http.StatusInternalServerError}
}

func (w *World) answer(rw http.ResponseWriter, s *service, action string, output any, wire wire) {
	id := newUUID()
	rw.Header().Set("X-Amzn-Requestid", id)
	switch wire {
	case cborRPC:
		rw.Header().Set("Content-Type", "application/cbor")
		rw.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		_, _ = rw.Write(writeCBOR(output))
	case jsonRPC:
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		body, err := writeJSON(output, s.spell)
		if err != nil {
			w.t.Errorf("awsfake: %s %s: %v", s.name, action, err)
		}
		_, _ = io.Copy(rw, bytes.NewReader(body))
	default:
		rw.Header().Set("Content-Type", "text/xml")
		_, _ = io.WriteString(rw, writeXML(s.namespace, action, id, output))
	}
}

func (w *World) answerError(rw http.ResponseWriter, s *service, wire wire, err error) {
	refusal := refusalOf(err)
	if !errors.Is(err, refusal) { // it was none
		w.t.Logf("awsfake: %s: %v", s.name, err)
	}
	id := newUUID()
	rw.Header().Set("X-Amzn-Requestid", id)
	switch wire {
	case jsonRPC:
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		rw.WriteHeader(refusal.status())
		_ = json.NewEncoder(rw).Encode(map[string]string{"__type": jsonCode(refusal.Code), "message": refusal.Message})
	case cborRPC:
		rw.Header().Set("Content-Type", "application/cbor")
		rw.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		rw.WriteHeader(refusal.status())
		_, _ = rw.Write(cbor.Encode(cbor.Map{"__type": cbor.String(refusal.Code), "message": cbor.String(refusal.Message)}))
	default:
		rw.Header().Set("Content-Type", "text/xml")
		rw.WriteHeader(refusal.status())
		_, _ = io.WriteString(rw, xmlError(s.namespace, id, refusal))
	}
}

// jsonCode is how the JSON services spell codes that the query services have without the ending.
func jsonCode(code string) string {
	if slices.Contains([]string{"Throttling", "ExpiredToken", "AccessDenied", "Unrecognized"}, code) {
		return code + "Exception"
	}
	return code
}

// aboutFields are the members that say what a request is about, the most telling first.
var aboutFields = []string{"EnvironmentName", "EnvironmentId", "SourceEnvironmentName", "SourceEnvironmentId", "VersionLabel", "ResourceArn", "ApplicationName",
	"SecretId", "Name", "LogGroupName", "StackName", "RuleArn", "ListenerArn", "TargetGroupArn", "LoadBalancerArn", "CommandId", "InstanceIds", "CNAMEPrefix"}

// resourceOf says what an input is about, for Calls and Faults.
func resourceOf(input any) string {
	v := reflect.Indirect(reflect.ValueOf(input))
	for _, name := range aboutFields {
		field := v.FieldByName(name)
		if !field.IsValid() || field.IsZero() {
			continue
		}
		if field = reflect.Indirect(field); field.Kind() == reflect.Slice && field.Len() > 0 {
			field = field.Index(0)
		}
		if field.Kind() == reflect.String {
			return field.String()
		}
	}
	return ""
}
