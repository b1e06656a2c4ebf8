package notify

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Every notice hears of every rollout that it is about, once, also over a restart of the controller.
func TestEachHearsOnce(t *testing.T) {
	chat, guild, hook := newEndpoint(t, slackSays(200, "ok")), newEndpoint(t, discordAccepts), newEndpoint(t, slackSays(200, ""))
	p := newPort(t, trusting(chat, guild, hook),
		deploy.Notice{Name: "team", Kind: "slack", URL: "SLACK"},
		deploy.Notice{Name: "guild", Kind: "discord", URL: "DISCORD", On: []string{"failure"}},
		deploy.Notice{Name: "hook", Kind: "webhook", URL: "HOOK", Stages: []string{"prod"}})
	p.address("SLACK", chat.URL)
	p.address("DISCORD", guild.URL)
	p.address("HOOK", hook.URL)
	p.settled("r1") // before the controller began
	stop := p.run()
	p.eventually(1)
	p.end("r2", "dev", deploy.KindUnchanged, nil)
	p.end("r3", "dev", deploy.KindReverted, &deploy.Turned{Step: "build", Why: "aborted", Aborted: true, Code: "aborted"})
	p.end("r4", "prod", deploy.KindSettled, nil)
	told := p.eventually(5)
	stop()
	p.run()() // another controller: nothing is left to tell
	stop = p.run()
	p.end("r5", "prod", deploy.KindSettled, nil)
	told = append(told[:0], p.eventually(7)...)
	stop()

	slices.Sort(told)
	if want := []string{"r1 team", "r3 guild", "r3 team", "r4 hook", "r4 team", "r5 hook", "r5 team"}; !slices.Equal(told, want) {
		t.Errorf("the ledger says that %v were told, want %v", told, want)
	}
	for name, c := range map[string]struct {
		e    *endpoint
		want []string
	}{"slack": {chat, []string{"r1-team", "r3-team", "r4-team", "r5-team"}}, "discord": {guild, []string{"r3-guild"}}, "webhook": {hook, []string{"r4-hook", "r5-hook"}}} {
		got := c.e.ids()
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s heard %v, want %v", name, got, c.want)
		}
	}
	if h := guild.heard[0]; h.query != "wait=true" || h.idempotency != "r3-guild" {
		t.Errorf("Discord was asked with %+v", h)
	}
}

// An endpoint that takes the connection and never answers delays nobody: not the others, not the next rollout.
func TestDeadEndpointDelaysNobody(t *testing.T) {
	release := make(chan struct{})
	dead := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { <-release; w.WriteHeader(http.StatusInternalServerError) })
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	alive := newEndpoint(t, slackSays(200, "ok"))
	p := newPort(t, trusting(dead, alive), deploy.Notice{Name: "dead", Kind: "webhook", URL: "DEAD"}, deploy.Notice{Name: "team", Kind: "slack", URL: "TEAM"})
	p.address("DEAD", dead.URL)
	p.address("TEAM", alive.URL)
	stop := p.run()
	p.settled("r1")
	<-dead.news // it has the message, and keeps it
	p.settled("r2")
	if told := p.eventually(2); !slices.Equal(told, []string{"r1 team", "r2 team"}) {
		t.Errorf("told were %v", told)
	}
	let()
	stop()
	if got := dead.ids(); len(got) == 0 || slices.ContainsFunc(got, func(id string) bool { return id != "r1-dead" }) {
		t.Errorf("the dead one was sent %v: the second before the first", got)
	}
}

// inBubble runs a test where time passes at once when everybody waits.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(503, "")}}
		p := newPort(t, a, team("slack"))
		p.address("TEAM", "https://chat.example")
		p.settled("r1")
		began := time.Now()
		defer p.run()()
		told := p.bubbled(25 * time.Hour)
		if len(told) != 1 || told[0] != "r1 team not accepted within 24 h; the last time: answered 503 Service Unavailable" {
			t.Fatalf("the ledger says %q", told)
		}
		at := a.times()
		if last := at[len(at)-1].Sub(began); last > 24*time.Hour || last < 23*time.Hour {
			t.Errorf("it was given up after %s", last)
		}
		before := time.Duration(0)
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			if gap < time.Second || gap > 10*time.Minute+time.Second || i < 9 && gap < before {
				t.Errorf("pause %d is %s, after %s", i, gap, before)
			}
			before = gap
		}
		if at[len(at)-1].Sub(at[len(at)-2]) == at[len(at)-2].Sub(at[len(at)-3]) {
			t.Error("the pauses have no jitter")
		}
	})
}

// bubbled lets time pass, and returns who was told by then.
func (p *port) bubbled(d time.Duration) []string {
	time.Sleep(d) //nolint:forbidigo // inside synctest, where this is how time passes
	synctest.Wait()
	return p.told()
}

func TestWhatIsTriedAgain(t *testing.T) {
	never := func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }
	refused := func(*http.Request) (*http.Response, error) { return nil, errors.New("dial tcp 127.0.0.1:1: " + key) }
	for name, c := range map[string]struct {
		kind     string
		answer   func(*http.Request) (*http.Response, error)
		from, to time.Duration // between the first attempt and the second; 0: there is none
		why      string
	}{
		"a server's error":              {"slack", says(500, "rollup_error"), time.Second, 2 * time.Second, ""},
		"a timeout":                     {"webhook", never, 11 * time.Second, 12 * time.Second, ""},
		"no connection":                 {"webhook", refused, time.Second, 2 * time.Second, ""},
		"408":                           {"webhook", says(408, ""), time.Second, 2 * time.Second, ""},
		"Slack's limit":                 {"slack", says(429, "", "Retry-After", "30"), 30 * time.Second, 31 * time.Second, ""},
		"Slack's limit without a time":  {"slack", says(429, ""), time.Second, 2 * time.Second, ""},
		"Discord's limit in the body":   {"discord", says(429, `{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}`), 64570 * time.Millisecond, 65 * time.Second, ""},
		"Discord's limit in the header": {"discord", says(429, ``, "Retry-After", "65"), 65 * time.Second, 66 * time.Second, ""},
		"a limit until a date":          {"webhook", says(503, "", "Retry-After", "Sat, 01 Jan 2000 00:01:40 GMT"), 90 * time.Second, 100 * time.Second, ""},
		"a limit of no time":            {"slack", says(429, "", "Retry-After", "0"), time.Second, 2 * time.Second, ""},
		"a limit beyond all":            {"slack", says(429, "", "Retry-After", "1e300"), 0, 0, "not accepted within 24 h; the last time: answered 429 Too Many Requests"},
		"invalid_payload":               {"slack", says(400, "invalid_payload"), 0, 0, "answered 400 invalid_payload"},
		"action_prohibited":             {"slack", says(403, "action_prohibited"), 0, 0, "answered 403 action_prohibited"},
		"channel_not_found":             {"slack", says(404, "channel_not_found"), 0, 0, "answered 404 channel_not_found"},
		"channel_is_archived":           {"slack", says(410, "channel_is_archived"), 0, 0, "answered 410 channel_is_archived"},
		"unknown webhook":               {"discord", says(404, `{"message": "Unknown Webhook", "code": 10015}`), 0, 0, "answered 404 Unknown Webhook (10015)"},
		"what repeats the address":      {"slack", says(404, "/services/"+key+" is gone"), 0, 0, "answered 404 Not Found"},
		"elsewhere":                     {"webhook", says(302, "", "Location", "https://other.example"), 0, 0, "answered 302 and sends on to somewhere else"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				a := &answers{given: []func(*http.Request) (*http.Response, error){c.answer, says(204, "")}}
				p := newPort(t, a, team(c.kind))
				p.address("TEAM", "https://chat.example")
				p.settled("r1")
				defer p.run()()
				told := p.bubbled(time.Hour)
				at := a.times()
				switch {
				case len(told) != 1 || told[0] != strings.TrimSpace("r1 team "+c.why):
					t.Errorf("the ledger says %q", told)
				case c.to == 0 && len(at) != 1:
					t.Errorf("it was tried %d times", len(at))
				case c.to != 0 && (len(at) != 2 || at[1].Sub(at[0]) < c.from || at[1].Sub(at[0]) > c.to):
					t.Errorf("it was tried at %v", at)
				}
				if c.why != "" && !strings.Contains(p.log.String(), "notice=team") {
					t.Errorf("the log does not name the notice:\n%s", p.log.String())
				}
			})
		})
	}
}

// A limit for all of Discord keeps every message from it, of whatever stage, and none from others.
func TestGlobalLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(429, `{"retry_after": 60, "global": true}`), says(204, "")}}
		p := newPort(t, a, team("discord"), deploy.Notice{Name: "other", Kind: "webhook", URL: "OTHER", Stages: []string{"prod"}})
		p.address("TEAM", "https://discord.example")
		p.address("OTHER", "https://other.example")
		defer p.run()()
		p.settled("r1")
		p.bubbled(time.Second)
		began := time.Now()
		p.end("r2", "prod", deploy.KindSettled, nil)
		p.bubbled(time.Hour)
		for i, at := range a.times()[1:] {
			waited := at.Sub(began)
			if a.hosts[i+1] == "discord.example" && waited < 59*time.Second || a.hosts[i+1] == "other.example" && waited > time.Second {
				t.Errorf("%s was asked after %s", a.hosts[i+1], waited)
			}
		}
		if n := len(a.times()); n != 4 {
			t.Errorf("there were %d requests: %v", n, a.ids)
		}
	})
}

// Messages of one notice arrive in the order of the rollouts, whatever becomes of the first; a new address is taken up meanwhile.
func TestOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(500, ""), says(500, ""), says(500, ""), says(204, "")}}
		p := newPort(t, a, team("webhook"))
		p.address("TEAM", "https://old.example")
		defer p.run()()
		p.settled("r1")
		p.reverted("r2")
		p.settled("r3")
		p.bubbled(2 * time.Second)
		p.address("TEAM", "https://new.example")
		told := p.bubbled(time.Hour)
		if want := []string{"r1 team", "r2 team", "r3 team"}; !slices.Equal(told, want) {
			t.Errorf("told were %v", told)
		}
		if want := []string{"r1-team", "r1-team", "r1-team", "r1-team", "r2-team", "r3-team"}; !slices.Equal(a.ids, want) {
			t.Errorf("sent were %v", a.ids)
		}
		if a.hosts[0] != "old.example" || a.hosts[5] != "new.example" {
			t.Errorf("they went to %v", a.hosts)
		}
	})
}

// A crash between the answer and the event tells twice, with one id; after that it is over.
func TestCrashBeforeRecording(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(204, "")}}
		p := newPort(t, a, team("slack"))
		p.address("TEAM", "https://chat.example")
		p.settled("r1")
		for _, mute := range []bool{true, false, false} {
			p.mute = mute
			stop := p.run()
			p.bubbled(time.Hour)
			stop()
		}
		if want := []string{"r1-team", "r1-team"}; !slices.Equal(a.ids, want) {
			t.Errorf("sent were %v, want %v", a.ids, want)
		}
		if told := p.told(); !slices.Equal(told, []string{"r1 team"}) {
			t.Errorf("told were %v", told)
		}
	})
}

// The end of a controller does not cut a message off, so that it need not be told twice; nor does it wait for one that is to be
// tried again.
func TestEndWhileTelling(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		slow := func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(5 * time.Second):
				return says(204, "")(r)
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
		a := &answers{given: []func(*http.Request) (*http.Response, error){slow, says(500, ""), says(204, "")}}
		p := newPort(t, a, team("slack"))
		p.address("TEAM", "https://chat.example")
		p.settled("r1")
		stop := p.run()
		p.bubbled(time.Second)
		stop()
		if told := p.told(); !slices.Equal(told, []string{"r1 team"}) {
			t.Errorf("told were %v", told)
		}
		p.settled("r2")
		stop = p.run()
		p.bubbled(100 * time.Millisecond) // the first attempt has missed
		began := time.Now()
		stop()
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the end waited for %s", waited)
		}
		defer p.run()()
		if told := p.bubbled(time.Hour); !slices.Equal(told, []string{"r1 team", "r2 team"}) || len(a.ids) != 3 {
			t.Errorf("told were %v, sent %v", told, a.ids)
		}
	})
}

// What ended while no controller ran is told by the next one, where that is not more than 24 h ago.
func TestAfterBeingDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(204, "")}}
		p := newPort(t, a, team("slack"))
		p.address("TEAM", "https://chat.example")
		p.settled("ancient") // and a controller lived long after that
		p.bubbled(72 * time.Hour)
		p.settled("old")
		p.bubbled(2 * time.Hour)
		p.settled("young")
		p.bubbled(23 * time.Hour)
		defer p.run()()
		told := p.bubbled(time.Hour)
		slices.Sort(told)
		if want := []string{"old team too old", "young team"}; !slices.Equal(told, want) {
			t.Errorf("the ledger says %q", told)
		}
		if !slices.Equal(a.ids, []string{"young-team"}) {
			t.Errorf("sent were %v", a.ids)
		}
	})
}

// The loop that waits for the ledger comes to rest: what it writes itself does not keep it awake.
func TestComesToRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(204, "")}}
		p := newPort(t, a, team("slack"))
		p.address("TEAM", "https://chat.example")
		counted := &counting{port: p}
		p.config.Ledger = counted
		defer p.run()()
		p.settled("r1")
		p.bubbled(time.Minute)
		after := counted.waits.Load()
		p.bubbled(time.Hour)
		if counted.waits.Load() != after || after > 4 {
			t.Errorf("the ledger was waited for %d times, then %d", after, counted.waits.Load())
		}
	})
}

// A ledger that cannot be read for a while is asked again.
func TestLedgerThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &answers{given: []func(*http.Request) (*http.Response, error){says(204, "")}}
		p := newPort(t, a, team("slack"))
		p.address("TEAM", "https://chat.example")
		counted := &counting{port: p}
		p.config.Ledger = counted
		stop := p.run()
		defer stop()
		p.bubbled(time.Second)
		counted.fails.Store(true)
		p.settled("r1")
		p.bubbled(10 * time.Second)
		counted.fails.Store(false)
		if told := p.bubbled(10 * time.Second); !slices.Equal(told, []string{"r1 team"}) {
			t.Errorf("told were %v", told)
		}
	})
}

func TestAddresses(t *testing.T) {
	other := newEndpoint(t, slackSays(200, "ok"))
	away := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	along := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/new" {
			http.Redirect(w, r, "/new", http.StatusPermanentRedirect)
		}
	})
	untrusted := newEndpoint(t, slackSays(200, "ok"))
	gone := newEndpoint(t, slackSays(200, "ok"))
	gone.Close()
	for name, c := range map[string]struct {
		address, want string
		roots         []*endpoint
	}{
		"told":               {other.URL, "", []*endpoint{other}},
		"away":               {away.URL, "answered 307 and sends on to somewhere else", []*endpoint{away, other}},
		"on the same host":   {along.URL, "", []*endpoint{along}},
		"not to be trusted":  {untrusted.URL, "its certificate does not hold", nil},
		"not there":          {gone.URL, "refused the connection", nil},
		"for all to read":    {"http://chat.example", "the address in TEAM begins with http://: it would be sent for everybody to read", nil},
		"loopback in plain":  {"http://127.0.0.1:1", "the address in TEAM begins with http://: it would be sent for everybody to read", nil},
		"no address":         {"hunter2 " + key, "what TEAM holds is not the address of a webhook", nil},
		"another kind of it": {"ftp://chat.example", "what TEAM holds is not the address of a webhook", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPort(t, trusting(c.roots...), team("webhook"))
			p.address("TEAM", c.address)
			teller, err := Open(t.Context(), p.config)
			if err != nil {
				t.Fatal(err)
			}
			results, err := teller.TestNotices(t.Context(), deploy.NoticeTest{Dir: "/app"})
			if err != nil || len(results) != 1 {
				t.Fatalf("%v, %v", results, err)
			}
			r := results[0]
			if r.Why != c.want || r.Told != (c.want == "") || !r.Told && r.Hint == "" || strings.Contains(r.Why+r.Hint, key) {
				t.Errorf("the result is %+v", r)
			}
		})
	}
	if len(other.ids()) != 1 {
		t.Errorf("the other host heard %v", other.ids())
	}
	if along.ids()[1] != along.ids()[0] || len(along.heard[1].body) == 0 {
		t.Errorf("what was sent along is %+v", along.heard)
	}
	if len(untrusted.ids()) != 0 {
		t.Error("an endpoint without a certificate was told")
	}
}

func TestTestNotices(t *testing.T) {
	chat, hook := newEndpoint(t, slackSays(200, "ok")), newEndpoint(t, slackSays(404, ""))
	p := newPort(t, trusting(chat, hook), team("slack"), deploy.Notice{Name: "ops", Kind: "webhook", URL: "OPS", Stages: []string{"prod"}})
	p.address("TEAM", chat.URL)
	p.address("OPS", hook.URL)
	teller, err := Open(t.Context(), p.config)
	if err != nil {
		t.Fatal(err)
	}
	results, err := teller.TestNotices(t.Context(), deploy.NoticeTest{Dir: "/app"})
	want := []deploy.NoticeResult{{Notice: "team", Kind: "slack", Stage: "dev", Told: true},
		{Notice: "ops", Kind: "webhook", Stage: "prod", Status: 404, Why: "answered 404 Not Found", Hint: "is the address in OPS the right one?"}}
	if err != nil || !slices.Equal(results, want) {
		t.Errorf("%+v, %v", results, err)
	}
	results, err = teller.TestNotices(t.Context(), deploy.NoticeTest{Dir: "/app", Stage: "prod", Notice: "team"})
	if err != nil || len(results) != 1 || results[0].Stage != "prod" {
		t.Errorf("%+v, %v", results, err)
	}
	for _, q := range []deploy.NoticeTest{{Dir: "/app", Notice: "nobody"}, {Dir: "/app", Stage: "dev", Notice: "ops"}, {Dir: "/elsewhere"}} {
		if _, err := teller.TestNotices(t.Context(), q); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if len(p.told()) != 0 {
		t.Error("the ledger heard of a test")
	}
}

// What goes wrong with the data of a stage is told at once, once, to those who hear of failures; what fails again is not, nor what goes well.
func TestDataAlarms(t *testing.T) {
	chat, quiet := newEndpoint(t, slackSays(200, "ok")), newEndpoint(t, slackSays(200, ""))
	p := newPort(t, trusting(chat, quiet), deploy.Notice{Name: "team", Kind: "slack", URL: "SLACK"}, deploy.Notice{Name: "good", Kind: "webhook", URL: "HOOK", On: []string{"success"}})
	p.address("SLACK", chat.URL)
	p.address("HOOK", quiet.URL)
	stop := p.run()
	p.settled("r1")
	p.eventually(2)
	for kind, data := range map[string]string{deploy.KindSnapshotTaken: `{"taken":{"id":"a"}}`, deploy.KindSnapshotProven: `{"snapshot":"a"}`,
		deploy.KindSnapshotFailed: `{"failed":"again","again":true}`, deploy.KindSnapshotPruned: `{"pruned":["b"]}`} {
		p.data(kind, data)
	}
	p.data(deploy.KindSnapshotFailed, `{"failed":"not enough disk space: 3 MB are free","hint":"make room","code":"no-space"}`)
	p.data(deploy.KindSnapshotMissed, `{"failed":"no controller was there"}`)
	p.data(deploy.KindSnapshotUnproven, `{"failed":"orders has 3 rows, not 4"}`)
	p.data(deploy.KindRestoreFailed, `{"failed":"the check refuses it"}`)
	p.eventually(6)
	stop()
	p.run()() // another controller: nothing is left to tell
	var texts []string
	for _, h := range chat.heard {
		texts = append(texts, string(h.body))
	}
	all := strings.Join(texts, "\n")
	if len(texts) != 5 || len(quiet.heard) != 1 {
		t.Errorf("%d and %d were heard:\n%s", len(texts), len(quiet.heard), all)
	}
	for _, want := range []string{"shop/dev: a snapshot failed", "3 MB are free", "make room", "shop/dev: a snapshot was missed", "shop/dev: a snapshot could not be proven",
		"orders has 3 rows", "shop/dev: a restore went back"} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody heard %q in:\n%s", want, all)
		}
	}
}

func (p *port) data(kind, data string) {
	p.t.Helper()
	if _, err := p.book.Append(p.t.Context(), deploy.Event{Kind: kind, App: "shop", Stage: "dev", Data: []byte(data)}); err != nil {
		p.t.Fatal(err)
	}
}
