package awsfake

import (
	"net/http"
	"strings"
	"time"
)

// Fault makes calls fail. It meets calls of Service and Action ("" is any) whose resource holds Resource ("" is any).
type Fault struct {
	Service  string // as in IAM: elasticbeanstalk, s3, ssm, secretsmanager, elasticloadbalancing, logs, …
	Action   string // as in the API: CreateEnvironment, PutObject
	Resource string // part of Call.Resource
	After    int    // so many calls pass first
	Times    int    // so many calls fail; 0 is one, a negative number is all

	Code    string // ThrottlingException, ExpiredToken …
	Message string
	HTTP    int // status; 400 where 0

	Hang bool // no answer comes until the client gives up or the World ends
	Drop bool // the connection is cut
	Done bool // with any of the above: the call is carried out first, and only its answer is lost
}

type standingFault struct {
	Fault
	seen, struck int
}

// Inject lets f stand from now on. Faults are asked in the order of their coming; the first that strikes decides.
func (w *World) Inject(f Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.Times == 0 {
		f.Times = 1
	}
	w.faults = append(w.faults, &standingFault{Fault: f})
}

// Heal takes all faults and troubles away.
func (w *World) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults, w.troubles = nil, nil
	close(w.healed)
	w.healed = make(chan struct{})
}

// Throttled is a Fault: the next times calls are refused as too many, in the words of the service.
func Throttled(service, action string, times int) Fault {
	return Fault{Service: service, Action: action, Times: times, Code: "Throttling", Message: "Rate exceeded"}
}

// Expired is a Fault: the credentials of every call of service ("" is any) are too old, until Heal.
func Expired(service string) Fault {
	return Fault{Service: service, Times: -1, Code: "ExpiredToken", Message: "The security token included in the request is expired", HTTP: http.StatusForbidden}
}

// Deny makes an action one that the caller's policies do not allow, until Heal.
func (w *World) Deny(service, action string) {
	w.Inject(Fault{Service: service, Action: action, Times: -1, Code: accessDenied})
}

// accessDenied as a Fault's code without a message is worded as AWS words a missing permission.
const accessDenied = "AccessDenied"

// strikes finds the fault that this call runs into. What an instance asks for is met only by a fault that names its action: a test that
// breaks what it does itself breaks nothing else. The caller holds mu.
func (w *World) strikes(c *Call) *Fault {
	for _, f := range w.faults {
		if c.instance && f.Action == "" {
			continue
		}
		if !f.meets(c) || (f.Times >= 0 && f.struck >= f.Times) {
			continue
		}
		f.seen++
		if f.seen <= f.After {
			continue
		}
		f.struck++
		return &f.Fault
	}
	return nil
}

func (f *Fault) meets(c *Call) bool {
	return (f.Service == "" || f.Service == c.Service) && (f.Action == "" || f.Action == c.Action) && strings.Contains(c.Resource, f.Resource)
}

// refusal is what a Fault with a code answers.
func (w *World) refusal(f *Fault, c *Call) *apiError {
	if f.Code == "" {
		return nil
	}
	if f.Code == accessDenied && f.Message == "" {
		resource := c.Resource
		if resource == "" {
			resource = "*"
		}
		return denied(w.options.Caller, c.Service+":"+c.Action, resource)
	}
	if c.Service == "s3" && f.Code == "Throttling" {
		return &apiError{Code: "SlowDown", Message: "Please reduce your request rate.", HTTP: http.StatusServiceUnavailable}
	}
	return &apiError{Code: f.Code, Message: f.Message, HTTP: f.HTTP}
}

// Trouble is what befalls environments rather than calls. It meets environments whose name holds Environment ("" is any).
type Trouble struct {
	Environment string
	Times       int // so many times; 0 is one, a negative number is always

	Red            bool          // it comes to Ready, and is Red and Severe
	LaunchFails    bool          // launching or updating ends Ready and Red with "Failed to deploy application."
	SwapFails      bool          // the swap is accepted, and fails later
	Stuck          bool          // it never leaves Launching or Updating, until aborted or terminated
	NoEvent        string        // events with this text are never written
	Slower         time.Duration // launch, update, swap or terminate takes longer by this
	TerminateFails bool          // the environment stays, with an event that says why
}

// Trouble lets trouble stand from now on.
func (w *World) Trouble(trouble Trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if trouble.Times == 0 {
		trouble.Times = 1
	}
	w.troubles = append(w.troubles, &trouble)
}

// troubled takes one time of the first trouble of environment for which is holds. The caller holds mu.
func (w *World) troubled(environment string, is func(*Trouble) bool) (Trouble, bool) {
	for _, trouble := range w.troubles {
		if trouble.Times == 0 || !strings.Contains(environment, trouble.Environment) || !is(trouble) {
			continue
		}
		if trouble.Times > 0 {
			trouble.Times--
		}
		return *trouble, true
	}
	return Trouble{}, false
}

// Call is one request that reached the control plane.
type Call struct {
	Service  string // as in IAM and in the signature: elasticbeanstalk
	Action   string // CreateEnvironment; for S3 the API's name of it, PutObject
	Resource string // the name, id or ARN that the request is about, bucket/key for S3; "" where there is none
	Region   string
	Err      string // code of the refusal, "" where it went well; "Drop" and "Hang" where no answer came

	instance bool // signed with the key of an instance
}

// Calls are all so far, in the order of their coming, but those of instances.
func (w *World) Calls() []Call { return w.callsBy(false) }

// CallsOfInstances are those that instances have made with the rights of their profile.
func (w *World) CallsOfInstances() []Call { return w.callsBy(true) }

func (w *World) callsBy(instances bool) []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := make([]Call, 0, len(w.calls))
	for _, c := range w.calls {
		if c.instance == instances {
			calls = append(calls, *c)
		}
	}
	return calls
}

// ForgetCalls empties Calls, for a test that counts from here on.
func (w *World) ForgetCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = nil
}

// record keeps a call; its Err is set later, under mu. The caller holds mu.
func (w *World) record(c Call) *Call {
	w.calls = append(w.calls, &c)
	return &c
}
