package store

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"whatsgonow/internal/market"
	"whatsgonow/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// a world is a store with a clock that the test sets.
type world struct {
	*Store
	t   *testing.T
	at  time.Time
	url string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, at: start, url: pgtest.Migrated(t)}
	w.Store = w.open()
	return w
}

func (w *world) open() *Store {
	w.t.Helper()
	s, err := Open(w.url, func() time.Time { return w.at })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) person(name string) Account {
	w.t.Helper()
	a, err := w.Register(w.t.Context(), name, strings.ToLower(name)+"@example.org", "hash")
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) transport(sender Account) string {
	w.t.Helper()
	id, err := w.Post(w.t.Context(), sender.ID, market.Draft{
		Title: "Kommode", Note: "von Oma", Size: market.Large, WeightKG: 30, PriceCents: 6000,
		From:   market.Place{Name: "Leipzig", Point: market.Point{Lat: 51.34, Lng: 12.37}},
		To:     market.Place{Name: "Hamburg", Point: market.Point{Lat: 53.55, Lng: 9.99}},
		Window: market.Window{Start: w.at, End: w.at.Add(24 * time.Hour)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) offer(driver Account, transport string, cents int) string {
	w.t.Helper()
	id, err := w.Propose(w.t.Context(), driver, transport, cents, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status(transport string) market.Status {
	w.t.Helper()
	v, err := w.Look(w.t.Context(), Account{}, transport)
	w.must(err)
	return v.Status
}

// one asks the database itself.
func one[T any](w *world, sql string, args ...any) (value T) {
	w.t.Helper()
	w.must(w.pool.QueryRow(w.t.Context(), sql, args...).Scan(&value))
	return value
}

func TestNotReadyWithoutTables(t *testing.T) {
	w := &world{t: t, at: start, url: pgtest.Database(t)}
	w.Store = w.open()
	if err := w.Ready(t.Context()); !Away(err) {
		t.Errorf("without tables: %v", err)
	}
	if _, err := w.Register(t.Context(), "Frieda", "frieda@example.org", "hash"); !Away(err) {
		t.Errorf("a change without tables: %v", err)
	}
	if err := newWorld(t).Ready(t.Context()); err != nil {
		t.Errorf("with them: %v", err)
	}
}

func TestOnlyOneOfferBecomesTheDeal(t *testing.T) {
	w := newWorld(t)
	sender := w.person("Frieda")
	transport := w.transport(sender)
	var offers []string
	for _, name := range []string{"Jonas", "Ruben", "Aylin", "Piotr"} {
		offers = append(offers, w.offer(w.person(name), transport, 5000))
	}
	var group sync.WaitGroup
	results := make([]error, len(offers))
	for i, offer := range offers {
		group.Go(func() { _, results[i] = w.Answer(t.Context(), sender, offer, market.Accept, 0) })
	}
	group.Wait()
	deals := 0
	for _, err := range results {
		switch {
		case err == nil:
			deals++
		case !errors.Is(err, market.ErrNotNow):
			t.Error(err)
		}
	}
	accepted := one[int](w, `select count(*) from offers where status = 'accepted'`)
	rejected := one[int](w, `select count(*) from offers where status = 'rejected'`)
	reserved := one[int](w, `select count(*) from transactions where status = 'reserved' and amount_cents = 5000`)
	if deals != 1 || accepted != 1 || rejected != 3 || reserved != 1 || w.status(transport) != market.DealAccepted {
		t.Errorf("%d deals, %d accepted, %d rejected, %d reserved, %s", deals, accepted, rejected, reserved, w.status(transport))
	}
}

func TestADriverHasOneOpenOffer(t *testing.T) {
	w := newWorld(t)
	driver := w.person("Jonas")
	transport := w.transport(w.person("Frieda"))
	first := w.offer(driver, transport, 5000)
	if _, err := w.Propose(t.Context(), driver, transport, 4000, ""); !errors.Is(err, market.ErrNotNow) {
		t.Errorf("the second: %v", err)
	}
	_, err := w.Answer(t.Context(), driver, first, market.Reject, 0)
	w.must(err)
	if got := w.status(transport); got != market.Created {
		t.Errorf("after the last offer was withdrawn it is %s", got)
	}
	w.offer(driver, transport, 4000)
}

// Each person's events are numbered without a gap, in the order in which they can be
// seen: otherwise a stream that resumes after a number would miss some.
func TestEventsHaveNoGaps(t *testing.T) {
	w := newWorld(t)
	sender := w.person("Frieda")
	var group sync.WaitGroup
	for _, name := range []string{"Jonas", "Ruben", "Aylin", "Piotr", "Olga"} {
		driver, transports := w.person(name), []string{w.transport(sender), w.transport(sender)}
		group.Go(func() {
			for _, transport := range transports {
				if _, err := w.Propose(t.Context(), driver, transport, 100, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen, polls := int64(0), 0
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for ended := false; !ended; polls++ {
		select {
		case <-done:
			ended = true
		default:
		}
		events, err := w.EventsAfter(t.Context(), sender.ID, seen)
		w.must(err)
		for _, e := range events {
			if e.Seq != seen+1 {
				t.Fatalf("after %d comes %d", seen, e.Seq)
			}
			seen = e.Seq
		}
	}
	if want := int64(20); seen != want { // an offer and its transport, ten times
		t.Errorf("saw %d events in %d polls, want %d", seen, polls, want)
	}
}

func TestListenHearsOfOthers(t *testing.T) {
	w := newWorld(t)
	sender, driver := w.person("Frieda"), w.person("Jonas")
	transport := w.transport(sender)
	other := w.open()
	heard := make(chan string, 100)
	go other.Listen(t.Context(), func(person string) { heard <- person })
	if got := <-heard; got != "" {
		t.Fatalf("the first wake-up is for %q, not for all", got)
	}
	w.offer(driver, transport, 5000)
	for want := map[string]bool{sender.ID: true, driver.ID: true}; len(want) > 0; {
		delete(want, <-heard)
	}
}

func TestExpire(t *testing.T) {
	w := newWorld(t)
	sender, driver := w.person("Frieda"), w.person("Jonas")
	open, offered, dealt, taken := w.transport(sender), w.transport(sender), w.transport(sender), w.transport(sender)
	w.offer(driver, offered, 5000)
	for _, transport := range []string{dealt, taken} {
		_, err := w.Answer(t.Context(), sender, w.offer(driver, transport, 5000), market.Accept, 0)
		w.must(err)
	}
	w.must(w.Act(t.Context(), sender, taken, market.Confirm, ""))
	w.must(w.AddUpload(t.Context(), "forgotten", 1))
	_, err := w.SignIn(t.Context(), sender.ID)
	w.must(err)

	w.at = start.Add(47 * time.Hour)
	w.must(w.AddUpload(t.Context(), "fresh", 1))
	w.at = start.Add(49 * time.Hour)
	late := w.transport(sender)

	var group sync.WaitGroup // the job may run twice at once
	var done [2]Expired
	for i := range done {
		group.Go(func() {
			var err error
			if done[i], err = w.Expire(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := done[0].Transports + done[1].Transports; n != 3 {
		t.Errorf("%d transports expired, want 3", n)
	}
	if photos := append(done[0].Photos, done[1].Photos...); len(photos) != 1 || photos[0] != "forgotten" {
		t.Errorf("photos to go: %v", photos)
	}
	for transport, want := range map[string]market.Status{
		open: market.Expired, offered: market.Expired, dealt: market.Expired, taken: market.Confirmed, late: market.Created,
	} {
		if got := w.status(transport); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if n := one[int](w, `select count(*) from transactions where transport = $1 and status = 'refunded'`, dealt); n != 1 {
		t.Error("the money is still reserved")
	}
	if n := one[int](w, `select count(*) from offers where status = 'expired'`); n != 1 {
		t.Errorf("%d offers expired", n)
	}
}

func TestErase(t *testing.T) {
	w := newWorld(t)
	sender, driver := w.person("Frieda"), w.person("Jonas")
	open, dealt := w.transport(sender), w.transport(sender)
	w.offer(driver, open, 4000)
	w.must(w.AddUpload(t.Context(), "photo", 1))
	_, err := w.pool.Exec(t.Context(), `update uploads set transport = $1`, dealt)
	w.must(err)
	_, err = w.Answer(t.Context(), sender, w.offer(driver, dealt, 5000), market.Accept, 0)
	w.must(err)
	w.must(w.Act(t.Context(), sender, dealt, market.Confirm, ""))

	if _, err := w.Erase(t.Context(), sender.ID); !errors.Is(err, ErrUnfinished) {
		t.Fatalf("erased with a transport under way: %v", err)
	}
	if _, err := w.Erase(t.Context(), driver.ID); !errors.Is(err, ErrUnfinished) {
		t.Fatalf("erased with a transport on board: %v", err)
	}
	code := one[string](w, `select handover_code from transports where id = $1`, dealt)
	w.must(w.Act(t.Context(), driver, dealt, market.PickUp, ""))
	w.must(w.Act(t.Context(), driver, dealt, market.Deliver, code))
	w.must(w.Act(t.Context(), sender, dealt, market.Complete, ""))

	photos, err := w.Erase(t.Context(), sender.ID)
	w.must(err)
	if len(photos) != 1 || photos[0] != "photo" {
		t.Errorf("photos to go: %v", photos)
	}
	if _, err := w.Look(t.Context(), driver, open); !errors.Is(err, ErrNotFound) {
		t.Errorf("the open transport: %v", err)
	}
	v, err := w.Look(t.Context(), driver, dealt)
	w.must(err)
	if v.Title != "" || v.Note != "" || v.Photo != "" || v.Sender.Name != "" || v.Status != market.Completed {
		t.Errorf("what the driver still sees: %+v", v.Transport)
	}
	kept := one[string](w, `select what || ' ' || amount_cents || ' ' || status || ' ' || keep_until || ' ' || (payer is null) from transactions`)
	if kept != "Transport Leipzig – Hamburg 5000 released 2036-12-31 true" {
		t.Errorf("what the law keeps: %s", kept)
	}
	if n := one[int](w, `select count(*) from audit where actor = $1`, sender.ID); n != 0 {
		t.Errorf("the audit log names them %d times", n)
	}
	if n := one[int](w, `select count(*) from people where email like 'frieda%'`); n != 0 {
		t.Error("the profile is still there")
	}
	_, err = w.Erase(t.Context(), driver.ID)
	w.must(err)
}

func TestErasingADriverReopensWhatTheyBidOn(t *testing.T) {
	w := newWorld(t)
	driver := w.person("Jonas")
	transport := w.transport(w.person("Frieda"))
	w.offer(driver, transport, 5000)
	_, err := w.Erase(t.Context(), driver.ID)
	w.must(err)
	if got := w.status(transport); got != market.Created {
		t.Errorf("it is %s", got)
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	frieda := w.person("Frieda")
	token, err := w.SignIn(t.Context(), frieda.ID)
	w.must(err)
	if n := one[int](w, `select count(*) from sessions where token_hash = $1`, []byte(token)); n != 0 {
		t.Error("the token itself is stored")
	}
	if a, err := w.Session(t.Context(), token); err != nil || a.ID != frieda.ID {
		t.Errorf("%+v, %v", a, err)
	}
	w.at = start.Add(SessionLife - time.Minute)
	if _, err := w.Session(t.Context(), token); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	if seen := one[time.Time](w, `select last_seen_at from people`); !seen.Equal(w.at) {
		t.Errorf("last seen at %v", seen)
	}
	w.at = start.Add(SessionLife)
	if _, err := w.Session(t.Context(), token); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
}

func TestOpenTellsNoSecret(t *testing.T) {
	_, err := Open("postgres://me:hunter2@ho st/x", time.Now)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestAway(t *testing.T) {
	s, err := Open("postgres://nobody@/x?host="+t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Ready(t.Context())
	if !Away(err) {
		t.Errorf("a missing server is not away: %v", err)
	}
	for _, err := range []error{context.Canceled, pgx.ErrNoRows, ErrNotFound} {
		if Away(err) {
			t.Errorf("%v is away", err)
		}
	}
}
