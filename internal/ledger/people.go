package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Person is who stands behind an actor's id, for showing. Its String and its log form are the id alone.
type Person struct {
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"`
	Mail      string    `json:"mail,omitempty"`
	Forgotten time.Time `json:"forgotten,omitzero"` // when name and address were erased
}

func (p Person) String() string { return p.ID }

// GoString keeps the name out of %#v too.
func (p Person) GoString() string { return p.ID }

// LogValue keeps name and address out of logs.
func (p Person) LogValue() slog.Value { return slog.StringValue(p.ID) }

// Person implements deploy.Ledger. Ids are random, so that nothing about a person can be computed from them, unless Config.PersonID makes
// them: then who was forgotten and comes again has the id of before. Addresses are compared
// without regard to case; the name is the one given last. Without an address, people are told apart by their names.
func (l *Ledger) Person(ctx context.Context, name, mail string) (id string, err error) {
	name, mail = strings.TrimSpace(name), strings.TrimSpace(mail)
	mailbox := "mail:" + fold(mail)
	if mail == "" {
		mailbox = "name:" + fold(name)
	}
	if mail == "" && name == "" || len(name)+len(mail) > 2000 {
		return "", fmt.Errorf("a person needs a name or a mail address of a usual length: %w", deploy.ErrBadInput)
	}
	err = l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var known string
		err := tx.QueryRowContext(ctx, "SELECT id, name FROM people WHERE mailbox = ?", mailbox).Scan(&id, &known)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			id = l.newPerson(mailbox)
			_, err = tx.ExecContext(ctx, `INSERT INTO people (id, mailbox, name, mail) VALUES (?, ?, ?, ?) ON CONFLICT (id)
				DO UPDATE SET mailbox = excluded.mailbox, name = excluded.name, mail = excluded.mail, forgotten = 0`, id, mailbox, name, mail)
		case err == nil && name != "" && name != known:
			_, err = tx.ExecContext(ctx, "UPDATE people SET name = ? WHERE id = ?", name, id)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

func (l *Ledger) newPerson(mailbox string) string {
	if l.person != nil {
		if id := l.person(mailbox); id != "" {
			return id
		}
	}
	return opaque("p-")
}

// opaque makes an id of 80 random bits.
func opaque(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }

// fold makes strings equal that differ only in case, as strings.EqualFold does.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}

// People returns everybody, also those who were forgotten: of them only the id and when.
func (l *Ledger) People(ctx context.Context) ([]Person, error) {
	rows, err := l.reader.QueryContext(ctx, "SELECT id, name, mail, forgotten FROM people ORDER BY id")
	if err != nil {
		return nil, translate(l.path, err)
	}
	defer rows.Close()
	var people []Person
	for rows.Next() {
		var p Person
		var forgotten int64
		if err := rows.Scan(&p.ID, &p.Name, &p.Mail, &forgotten); err != nil {
			return nil, translate(l.path, err)
		}
		if forgotten != 0 {
			p.Forgotten = time.Unix(forgotten, 0).UTC()
		}
		people = append(people, p)
	}
	return people, translate(l.path, rows.Err())
}

// Lookup returns the person behind an id. An id that was never given is deploy.ErrNotFound.
func (l *Ledger) Lookup(ctx context.Context, id string) (Person, error) {
	people, err := l.People(ctx)
	if err != nil {
		return Person{}, err
	}
	for _, p := range people {
		if p.ID == id {
			return p, nil
		}
	}
	return Person{}, unknownPerson(id)
}

// Names returns the names of those of ids that are known by name. What cannot be read is left out: names are for showing only.
func (l *Ledger) Names(ctx context.Context, ids []string) map[string]string {
	people, err := l.People(ctx)
	if err != nil {
		l.log.Warn("the names of people cannot be read", "error", err)
	}
	names := map[string]string{}
	for _, p := range people {
		if p.Name != "" && slices.Contains(ids, p.ID) {
			names[p.ID] = p.Name
		}
	}
	return names
}

func unknownPerson(id string) error { return fmt.Errorf("person %s: %w", id, deploy.ErrNotFound) }

// Forget erases the name and the address of a person; the id in the events stays and says nothing any more. The bytes are
// overwritten in the database and gone from its log when Forget returns nil. deploy.ErrUnavailable: another process was just reading
// the old state; erased for everybody who asks, but Forget must be repeated for the bytes. Twice is fine.
func (l *Ledger) Forget(ctx context.Context, person string) error {
	err := l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE people SET name = '', mail = '', mailbox = NULL,
			forgotten = CASE forgotten WHEN 0 THEN ? ELSE forgotten END WHERE id = ?`, l.now().Unix(), person)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, unknownPerson(person))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.emptyLog(ctx)
}

// emptyLog moves everything from the write-ahead log into the database and cuts the log to nothing: old states lie in it.
func (l *Ledger) emptyLog(ctx context.Context) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	var busy, frames, moved int
	err := l.writer.QueryRowContext(context.WithoutCancel(ctx), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	if err == nil && busy != 0 {
		err = deploy.Hint(fmt.Errorf("erased, but somebody reads the ledger: its old bytes are not overwritten yet: %w", deploy.ErrUnavailable),
			"repeat it when nothing else reads the ledger")
	}
	return translate(l.path, err)
}
