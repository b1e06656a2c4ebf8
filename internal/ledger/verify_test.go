package ledger_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
)

// The golden chain: three events at fixed times. If this test turns red, existing ledgers can no longer be verified.
func TestGoldenChain(t *testing.T) {
	times := []time.Time{
		time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC),
		time.Date(2026, 11, 23, 10, 30, 0, 120_000_000, time.FixedZone("CET", 3600)),
		time.Date(2026, 11, 23, 9, 30, 0, 123_456_789, time.UTC),
	}
	l := open(t, "", func() time.Time { now := times[0]; times = times[1:]; return now })
	want := []string{
		"0af6c6aa747ac54e00cd94277aec739bdf03a55edc06ade213c4fa3b97035b79",
		"0fefc17a062b193472c5026ef9c11d34e79d25a2fe5a1f45c36a0afa25d11f4a",
		"6411306e2be5b5f01a17afbd7905d31b4e718ef3187e4bb2e407a83ec2154ac4",
	}
	for i, e := range []deploy.Event{
		{Kind: "rollout.begun", App: "whatsgonow", Stage: "dev", Rollout: "r-1", Release: deploy.Digest("sha256:" + strings.Repeat("0f", 32)), Actor: "p-abc"},
		{Kind: "step.done", App: "whatsgonow", Stage: "dev", Rollout: "r-1", Data: json.RawMessage("{ \"share\": 100,\n \"why\": \"Grün <&> \u2028\" }")},
		{Kind: "k"},
	} {
		if got := mustAppend(t, l, e); got.Hash != want[i] {
			t.Errorf("event %d has hash %s, want %s", i+1, got.Hash, want[i])
		}
	}
}

// An auditor who has nothing but the JSON and the package comment comes to the same hashes.
func TestAuditorRecomputesHashesFromJSON(t *testing.T) {
	l := open(t, "", nil)
	fill(t, l, 5)
	mustAppend(t, l, deploy.Event{Kind: "k", Data: json.RawMessage(" {\"a\": \"<&>\u2028 \\u003c ü\", \"b\": [1.10, null] } ")})
	shown, err := json.Marshal(allEvents(t, l))
	if err != nil {
		t.Fatal(err)
	}
	var audited []struct {
		Seq                                                 int64
		At, Kind, App, Stage, Rollout, Release, Actor, Hash string
		Data                                                json.RawMessage
	}
	if err := json.Unmarshal(shown, &audited); err != nil {
		t.Fatal(err)
	}
	hash := make([]byte, 32)
	for _, e := range audited {
		text := hash
		for _, field := range []string{"lotse ledger 1", fmt.Sprint(e.Seq), e.At, e.Kind, e.App, e.Stage, e.Rollout, e.Release, e.Actor, string(e.Data)} {
			text = binary.BigEndian.AppendUint64(text, uint64(len(field)))
			text = append(text, field...)
		}
		sum := sha256.Sum256(text)
		hash = sum[:]
		if hex.EncodeToString(hash) != e.Hash {
			t.Errorf("event %d: the auditor finds %x, the ledger says %s", e.Seq, hash, e.Hash)
		}
	}
}

// A made ledger is a closed one with nine events, to be copied and harmed.
type made struct {
	path   string
	files  map[string]string
	events []deploy.Event
}

func makeOne(t *testing.T) made {
	t.Helper()
	m := made{path: filepath.Join(t.TempDir(), "ledger.db")}
	l := open(t, m.path, nil)
	m.events = fill(t, l, 9)
	if _, err := l.Person(t.Context(), "Ada", "ada@example.org"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Acquire(t.Context(), deploy.StageRef{App: "shop", Stage: "dev"}, "o", time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m.files = filesIn(t, filepath.Dir(m.path))
	return m
}

// reset puts the files back as they were made.
func (m made) reset(t testing.TB) {
	t.Helper()
	dir := filepath.Dir(m.path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range m.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// harm runs SQL behind the ledger's back, with the triggers out of the way.
func (m made) harm(t testing.TB, statement string, args ...any) {
	t.Helper()
	db := rawDB(t, m.path)
	defer db.Close()
	var stay, last string
	if err := db.QueryRow("SELECT sql FROM sqlite_schema WHERE name = 'events_stay'").Scan(&stay); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow("SELECT sql FROM sqlite_schema WHERE name = 'events_last'").Scan(&last); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"DROP TRIGGER events_stay", "DROP TRIGGER events_last", statement, stay, last} {
		var given []any
		if s == statement {
			given = args
		}
		if _, err := db.Exec(s, given...); err != nil {
			t.Fatal(s, err)
		}
	}
}

// verifyFile opens for reading and verifies. Opening may fail already.
func verifyFile(t testing.TB, path string) error {
	l, err := ledger.OpenReadOnly(t.Context(), path, ledger.Config{})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Verify(t.Context())
}

func TestVerifyFindsWhatWasDone(t *testing.T) {
	m := makeOne(t)
	for _, c := range []struct {
		name, sql string
		seq       int64 // the first bad event
	}{
		{"nothing", "SELECT 1", -1},
		{"a lease changed is no event", "UPDATE leases SET until = 1", -1},
		{"changed", "UPDATE events SET actor = 'p-9' WHERE seq = 4", 4},
		{"first removed", "DELETE FROM events WHERE seq = 1", 1},
		{"removed", "DELETE FROM events WHERE seq = 5", 5},
		{"removed and closed up", "DELETE FROM events WHERE seq = 5; UPDATE events SET seq = seq - 1 WHERE seq > 5", 5},
		{"tail removed", "DELETE FROM events WHERE seq > 7", 8},
		{"all removed", "DELETE FROM events", 1},
		{"tail removed and the head too", "DELETE FROM events WHERE seq > 7; UPDATE head SET seq = 7, hash = (SELECT hash FROM events WHERE seq = 7)", 8},
		{"inserted at the end", "INSERT INTO events SELECT 10, at, kind, app, stage, rollout, release, actor, data, hash FROM events WHERE seq = 9", 10},
		{"reordered", "UPDATE events SET seq = 100 WHERE seq = 3; UPDATE events SET seq = 3 WHERE seq = 4; UPDATE events SET seq = 4 WHERE seq = 100", 3},
		{"moved bytes between fields", "UPDATE events SET app = app || substr(stage, 1, 1), stage = substr(stage, 2) WHERE seq = 6", 6},
		{"the head forgets", "DELETE FROM head", 0},
		{"the head lies", "UPDATE head SET hash = (SELECT hash FROM events WHERE seq = 8)", 10},
		{"a trigger that eats events", "CREATE TRIGGER eat BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END", 0},
		{"an index is gone", "DROP INDEX events_by_stage", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.reset(t)
			m.harm(t, c.sql)
			err := verifyFile(t, m.path)
			if c.seq < 0 {
				if err != nil {
					t.Errorf("Verify of a good ledger: %v", err)
				}
				return
			}
			var damage *ledger.Damage
			if !errors.Is(err, deploy.ErrDamaged) || !errors.As(err, &damage) {
				t.Fatalf("Verify: %v, want ErrDamaged", err)
			}
			if damage.Seq != c.seq {
				t.Errorf("it names event %d, want %d: %v", damage.Seq, c.seq, err)
			}
			if !strings.Contains(deploy.HintOf(err), "copy") {
				t.Errorf("the hint does not say how to save what is good: %q", deploy.HintOf(err))
			}
		})
	}
}

// Any byte of any field of any event, changed in place (the integer included), is found, and the right event is named.
func TestVerifyFindsEveryChangedByte(t *testing.T) {
	m := makeOne(t)
	rapid.Check(t, func(r *rapid.T) {
		m.reset(t)
		seq := rapid.Int64Range(1, 9).Draw(r, "seq")
		column := rapid.SampledFrom([]string{"seq", "at", "kind", "app", "stage", "rollout", "release", "actor", "data", "hash"}).Draw(r, "column")
		flip := byte(rapid.IntRange(1, 255).Draw(r, "flip"))
		if column == "seq" {
			shift := rapid.IntRange(0, 7).Draw(r, "byte") * 8
			m.harm(t, "UPDATE events SET seq = ? WHERE seq = ?", seqFreeOf(seq^int64(flip)<<shift), seq)
		} else {
			var text []byte
			db := rawDB(t, m.path)
			if err := db.QueryRow("SELECT "+column+" FROM events WHERE seq = ?", seq).Scan(&text); err != nil {
				r.Fatal(err)
			}
			db.Close()
			text[rapid.IntRange(0, len(text)-1).Draw(r, "byte")] ^= flip
			m.harm(t, "UPDATE events SET "+column+" = CAST(? AS TEXT) WHERE seq = ?", text, seq)
		}
		var damage *ledger.Damage
		if err := verifyFile(t, m.path); !errors.As(err, &damage) {
			r.Fatalf("a changed byte of %s of event %d was not found: %v", column, seq, err)
		}
		if damage.Seq != seq && column != "seq" {
			r.Fatalf("event %d was changed, %d is named", seq, damage.Seq)
		}
	})
}

// seqFreeOf leaves a number that no other event has: the key is unique.
func seqFreeOf(seq int64) int64 {
	if seq >= 1 && seq <= 9 {
		return seq + 1000
	}
	return seq
}

// Any byte of the database file, changed on the disk: either Verify says so, or no event is different. It never panics, and
// what can still be read is read.
func TestChangedByteOfTheFile(t *testing.T) {
	m := makeOne(t)
	found := 0
	rapid.Check(t, func(r *rapid.T) {
		m.reset(t)
		data := []byte(m.files["ledger.db"])
		at := rapid.IntRange(0, len(data)-1).Draw(r, "offset")
		data[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "flip"))
		if err := os.WriteFile(m.path, data, 0o600); err != nil {
			r.Fatal(err)
		}
		l, err := ledger.OpenReadOnly(t.Context(), m.path, ledger.Config{})
		if err != nil {
			found++
			return
		}
		defer l.Close()
		if err := l.Verify(t.Context()); err != nil {
			found++
			return
		}
		events, err := l.Events(t.Context(), deploy.EventQuery{})
		if err != nil || !reflect.DeepEqual(events, m.events) {
			r.Fatalf("byte %d was changed, Verify found nothing, and the events differ (%v)", at, err)
		}
	})
	if found == 0 {
		t.Error("no change was found at all")
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	m := makeOne(t)
	zeros, all := strings.Repeat("\x00", 5000), m.files["ledger.db"]
	for _, c := range []struct {
		name  string
		harm  func(t *testing.T)
		want  error
		says  string
		reads bool // opening for reading still works
	}{
		{"random bytes", m.overwrite(strings.Repeat("no database ", 999)), deploy.ErrDamaged, "not a database", false},
		{"zeros", m.overwrite(zeros), deploy.ErrDamaged, "not a database", false},
		{"empty", m.overwrite(""), deploy.ErrDamaged, "empty", false},
		{"half of a page", m.overwrite(all[:2000]), deploy.ErrDamaged, "", false},
		{"half of the file", m.overwrite(all[:len(all)/2]), deploy.ErrDamaged, "", false},
		{"gone, its note still there", m.remove("ledger.db"), deploy.ErrDamaged, "the file is gone", false},
		{"a table is missing", m.sql("DROP TABLE leases"), deploy.ErrDamaged, "the table leases is missing", true},
		{"a column is missing", m.sql("ALTER TABLE people DROP COLUMN forgotten"), deploy.ErrDamaged, "the table people", true},
		{"another program's", m.sql("PRAGMA application_id = 7"), deploy.ErrBadInput, "not a ledger", false},
		{"a newer version's", m.sql("PRAGMA user_version = 99"), deploy.ErrBadInput, "newer lotse", false},
		{"no tail", m.sql("DELETE FROM events WHERE seq = 9"), deploy.ErrDamaged, "the last event is 8, but 9", true},
		{"an older copy", m.sql("DELETE FROM events WHERE seq = 9; UPDATE head SET seq = 8, hash = (SELECT hash FROM events WHERE seq = 8)"),
			deploy.ErrDamaged, "older copy", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.reset(t)
			c.harm(t)
			before := filesIn(t, filepath.Dir(m.path))
			l, err := ledger.Open(t.Context(), m.path, ledger.Config{})
			if err == nil {
				l.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || deploy.HintOf(err) == "" {
				t.Errorf("got %v (hint %q), want %v that says %q, with a hint", err, deploy.HintOf(err), c.want, c.says)
			}
			if after := filesIn(t, filepath.Dir(m.path)); after["ledger.db"] != before["ledger.db"] {
				t.Error("the damaged file was changed")
			}
			if !c.reads {
				return
			}
			r, err := ledger.OpenReadOnly(t.Context(), m.path, ledger.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if events := allEvents(t, r); len(events) < 8 {
				t.Errorf("%d events can be read", len(events))
			}
		})
	}
}

func (m made) overwrite(data string) func(t *testing.T) {
	return func(t *testing.T) {
		if err := os.WriteFile(m.path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (m made) remove(name string) func(t *testing.T) {
	return func(t *testing.T) {
		if err := os.Remove(filepath.Join(filepath.Dir(m.path), name)); err != nil {
			t.Fatal(err)
		}
	}
}

func (m made) sql(statement string) func(t *testing.T) {
	return func(t *testing.T) { m.harm(t, statement) }
}

// A note that a crash of the machine left older or half-written is no damage.
func TestAnOlderNoteIsNoDamage(t *testing.T) {
	m := makeOne(t)
	for name, note := range map[string]string{
		"older":        fmt.Sprintf("%019d %s\n", 3, m.events[2].Hash),
		"empty":        "",
		"half-written": m.files["ledger.db.head"][:30],
	} {
		m.reset(t)
		if err := os.WriteFile(m.path+".head", []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := verifyFile(t, m.path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l, err := ledger.Open(t.Context(), m.path, ledger.Config{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l.Close()
		if got := filesIn(t, filepath.Dir(m.path))["ledger.db.head"]; got != m.files["ledger.db.head"] {
			t.Errorf("%s: the note is %q, want it new", name, got)
		}
	}
	m.reset(t)
	if err := os.WriteFile(m.path+".head", fmt.Appendf(nil, "%019d %s\n", 3, m.events[3].Hash), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verifyFile(t, m.path); !errors.Is(err, deploy.ErrDamaged) {
		t.Errorf("a note of another history: %v, want ErrDamaged", err)
	}
}

// The database refuses to edit history, whoever asks.
func TestHistoryIsNotEditedByMistake(t *testing.T) {
	m := makeOne(t)
	db := rawDB(t, m.path)
	for _, s := range []string{"UPDATE events SET actor = 'x'", "DELETE FROM events WHERE seq = 9"} {
		if _, err := db.Exec(s); err == nil {
			t.Errorf("%s went through", s)
		}
	}
}

// Events that are all there and right, and an index that finds others: what Events answers would be wrong.
func TestVerifyLooksIntoIndices(t *testing.T) {
	m := makeOne(t)
	m.harm(t, `PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = (SELECT sum(rootpage) FROM sqlite_schema
		WHERE name LIKE 'events_by_%') - rootpage WHERE name LIKE 'events_by_%'; PRAGMA writable_schema = OFF`)
	if err := verifyFile(t, m.path); !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), "the database file") {
		t.Errorf("Verify: %v, want ErrDamaged that speaks of the file", err)
	}
}

func TestVerifySeesTheDiskNotTheCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, nil)
	fill(t, l, 9)
	allEvents(t, l) // fills the caches of the open connections
	if _, err := rawDB(t, path).Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), `{"step":"shift","share":3}`)
	if at < 0 {
		t.Fatal("the event is not in the file")
	}
	if _, err := file.WriteAt([]byte(`{"step":"shift","share":9}`), int64(at)); err != nil {
		t.Fatal(err)
	}
	var damage *ledger.Damage
	if err := l.Verify(t.Context()); !errors.As(err, &damage) || damage.Seq != 4 {
		t.Errorf("Verify: %v, want event 4", err)
	}
}
