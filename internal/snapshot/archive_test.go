package snapshot

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"filippo.io/age"
)

// archive writes what pg_dump would: for tests of what goes by, where no database is needed.
type archive struct{ bytes.Buffer }

func (a *archive) int(n int) {
	a.Write([]byte{0, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
}

func (a *archive) text(s string) { a.int(len(s)); a.WriteString(s) }

func (a *archive) head(entries ...entry) {
	a.WriteString("PGDMP\x01\x0e\x00\x04\x08\x01")
	for range 8 { // compression, time
		a.int(0)
	}
	a.text("app")
	a.text("15.1")
	a.text("15.2")
	a.int(len(entries))
	for _, e := range entries {
		a.int(e.id)
		a.int(map[bool]int{true: 1}[e.hasData])
		for _, s := range []string{"0", "0", e.name, e.kind} {
			a.text(s)
		}
		a.int(3)
		for _, s := range []string{e.statement, "", "", e.schema, "", "heap", e.owner, "false", "12"} {
			a.text(s)
		}
		a.Write([]byte{1, 1, 0, 0, 0}) // no text: the end of what it depends on
		a.Write(make([]byte, 9))
	}
}

func (a *archive) rows(id int, pieces ...string) {
	a.WriteByte(blockRows)
	a.int(id)
	for _, p := range pieces {
		a.text(p)
	}
	a.int(0)
}

var twoTables = []entry{{id: 1, hasData: true, kind: kindRows, schema: "public", name: "a", owner: "me"}, {id: 2, hasData: true, kind: kindRows, schema: "public", name: "b", owner: "me"},
	{id: 3, kind: "TABLE", schema: "public", name: "a", statement: "CREATE TABLE", owner: "me"}}

func TestAnArchiveIsRead(t *testing.T) {
	var a archive
	a.head(twoTables...)
	a.rows(2, "1\tx\n", "2\ty\n", "\\.\n\n\n")
	a.rows(1, "\n", "\\.\n\n\n") // one column, one empty text
	c, err := readArchive(&a.Buffer)
	if err != nil || c.server != "15.1" || c.tool != "15.2" || c.sums[1].rows != 1 || c.sums[2].rows != 2 || len(c.objects()) != 1 {
		t.Fatalf("%+v %v", c, err)
	}
}

// TestRowsAddUpHoweverTheyCome in any order, and cut into pieces anywhere; other rows add up to something else.
func TestRowsAddUpHoweverTheyCome(t *testing.T) {
	rows := []string{"1\tone", "", `\\.`, `\`, `\.x`, "twin", "twin", strings.Repeat("long", 1000)}
	total := func(rows []string, cut bool) sum {
		var l lineSum
		text := []byte(strings.Join(append(rows, `\.`, "", ""), "\n") + "\n")
		for len(text) > 0 {
			n := len(text)
			if cut {
				n = 1 + rand.IntN(min(n, 5))
			}
			l.add(text[:n])
			text = text[n:]
		}
		return l.sum
	}
	want := total(rows, false)
	if want.rows != int64(len(rows)) {
		t.Fatalf("%d rows, want %d", want.rows, len(rows))
	}
	for range 50 {
		rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		if got := total(rows, true); got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if total(append(rows[1:], "other"), false) == want || total(rows[1:], false) == want {
		t.Error("other rows add up to the same")
	}
}

// TestAnArchiveThatIsCut is told wherever it ends, and nothing makes the reader panic or take all memory.
func TestAnArchiveThatIsCut(t *testing.T) {
	var a archive
	a.head(twoTables...)
	a.rows(1, "1\n", "\\.\n\n\n")
	a.rows(2, "1\n", "\\.\n\n\n")
	text := a.Bytes()
	for n := range text {
		if _, err := readArchive(bytes.NewReader(text[:n])); !errors.Is(err, errCut) {
			t.Fatalf("cut at %d of %d: %v", n, len(text), err)
		}
		other := bytes.Clone(text)
		other[n] ^= 0x41
		_, _ = readArchive(bytes.NewReader(other)) // any answer, but an answer
	}
}

// endless is rows of about 100 bytes, 64 KiB at a time.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	row := []byte("12345\tsomebody@example.com\t2026-11-23 12:00:00+00\tsome text that is as long as such texts are\n")
	row[rand.IntN(5)] = byte('0' + rand.IntN(10))
	n := copy(p, row)
	e.left -= n
	return n, nil
}

// TestMemoryStaysFlat sends 200 MB through what a snapshot goes through, and back: what is held is a part of it that does not grow.
func TestMemoryStaysFlat(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	const size, most = 200 << 20, 150 << 20
	r, w := io.Pipe()
	go func() {
		sealed, err := seal(w, []age.Recipient{key.Recipient()})
		if err == nil {
			var head archive
			head.head(entry{id: 1, hasData: true, kind: kindRows, schema: "public", name: "a"})
			_, _ = sealed.Write(head.Bytes())
			_, _ = sealed.Write([]byte{blockRows, 0, 1, 0, 0, 0})
			piece, from := make([]byte, 128), &endless{size}
			for n, end := from.Read(piece); end == nil; n, end = from.Read(piece) {
				var one archive
				one.text(string(piece[:n]))
				_, _ = sealed.Write(one.Bytes())
			}
			_, _ = sealed.Write([]byte{0, 0, 0, 0, 0})
			err = sealed.Close()
		}
		w.CloseWithError(err)
	}()
	back, err := unseal(r, part{Name: databaseName}, []age.Identity{key})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	peak := uint64(0)
	c, err := readArchive(&watched{back, &peak})
	if err != nil || c.sums[1].rows < size/200 {
		t.Fatal(c, err)
	}
	t.Logf("at most %d MB were held", peak>>20)
	if peak > most {
		t.Errorf("%d MB were held for a stream of %d", peak>>20, size>>20)
	}
}

// watched looks at the heap each 8 MB or so.
type watched struct {
	from io.Reader
	peak *uint64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if rand.IntN(64) == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		*w.peak = max(*w.peak, m.HeapInuse+m.StackInuse)
	}
	return n, err
}
