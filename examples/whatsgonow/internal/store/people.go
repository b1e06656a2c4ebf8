package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"whatsgonow/internal/market"
)

// SessionLife is how long somebody stays signed in.
const SessionLife = 30 * 24 * time.Hour

// An Account is a person as they see themselves.
type Account struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Email   string `json:"email"`
	Manager bool   `json:"manager"`
}

// Register makes an account. The email must be in lower case.
func (s *Store) Register(ctx context.Context, name, email, passwordHash string) (Account, error) {
	a := Account{Name: name, Email: email}
	err := s.change(ctx, func(tx *tx) error {
		return tx.QueryRow(ctx, `insert into people (name, email, password, created_at, last_seen_at)
			values ($1, $2, $3, $4, $4) returning id`, name, email, passwordHash, tx.now).Scan(&a.ID)
	})
	if violates(err, "people_email_key") {
		return Account{}, ErrEmailTaken
	}
	return a, err
}

// Password returns the account with this address and the hash to check a password with.
func (s *Store) Password(ctx context.Context, email string) (a Account, hash string, err error) {
	err = s.pool.QueryRow(ctx, `select id, name, email, role = 'manager', password from people where email = $1`, email).
		Scan(&a.ID, &a.Name, &a.Email, &a.Manager, &hash)
	return a, hash, orNotFound(err)
}

// SignIn opens a session and returns its token, which only the person's browser keeps.
func (s *Store) SignIn(ctx context.Context, person string) (token string, err error) {
	raw := make([]byte, 32)
	rand.Read(raw)
	token = base64.RawURLEncoding.EncodeToString(raw)
	err = s.change(ctx, func(tx *tx) error {
		_, err := tx.Exec(ctx, `insert into sessions (token_hash, person, expires_at) values ($1, $2, $3)`,
			digest(token), person, tx.now.Add(SessionLife))
		return err
	})
	return token, err
}

// Session returns whose session the token opens, and notes that they were here: after
// long enough without, an account may be erased.
func (s *Store) Session(ctx context.Context, token string) (Account, error) {
	var a Account
	var seen time.Time
	now := s.now()
	err := s.pool.QueryRow(ctx, `
		select p.id, p.name, p.email, p.role = 'manager', p.last_seen_at
		from sessions s join people p on p.id = s.person
		where s.token_hash = $1 and s.expires_at > $2`, digest(token), now).
		Scan(&a.ID, &a.Name, &a.Email, &a.Manager, &seen)
	if err != nil {
		return Account{}, orNotFound(err)
	}
	if now.Sub(seen) > 24*time.Hour {
		_, err = s.pool.Exec(ctx, `update people set last_seen_at = $2 where id = $1`, a.ID, now)
	}
	return a, err
}

// SignOut closes the session, if there is one.
func (s *Store) SignOut(ctx context.Context, token string) error {
	_, err := s.pool.Exec(ctx, `delete from sessions where token_hash = $1`, digest(token))
	return err
}

// Erase deletes the person: name, address, password, sessions, offers, events, and every
// transport that no deal came of. It returns the photos whose bytes may go now.
//
// What the law wants kept (GoBD, § 147 AO) stays for ten years: rows of transactions,
// whose parties become null, and the audit log, whose actor becomes null. A transport
// that a deal came of stays for the other party, without title, note and photo.
// While sender and driver still owe each other something it is refused: ErrUnfinished.
func (s *Store) Erase(ctx context.Context, person string) (photos []string, err error) {
	err = s.change(ctx, func(tx *tx) error {
		theirs, err := tx.transports(ctx, `t.sender = $1 or t.driver = $1 or exists (
			select from offers o where o.transport = t.id and o.driver = $1 and o.status in ('proposed', 'countered'))
			order by t.id for update of t`, person)
		if err != nil {
			return err
		}
		for _, t := range theirs {
			switch {
			case t.Status.Bound() && (t.Sender.ID == person || t.Driver.ID == person):
				return ErrUnfinished
			case t.Sender.ID == person:
				gone, err := tx.eraseTransport(ctx, t)
				if err != nil {
					return err
				}
				photos = append(photos, gone...)
			default:
				if err := tx.withdraw(ctx, t, person); err != nil {
					return err
				}
			}
		}
		_, err = tx.Exec(ctx, `delete from people where id = $1`, person)
		return err
	})
	if err != nil {
		return nil, err
	}
	return photos, nil
}

func (tx *tx) eraseTransport(ctx context.Context, t market.Transport) (photos []string, err error) {
	if err := tx.closeOffers(ctx, t, market.Reject); err != nil {
		return nil, err
	}
	var photo string
	err = orNotFound(tx.QueryRow(ctx, `delete from uploads where transport = $1 returning id`, t.ID).Scan(&photo))
	if err == nil {
		photos = append(photos, photo)
	} else if err != ErrNotFound {
		return nil, err
	}
	if t.DealCents == 0 {
		_, err = tx.Exec(ctx, `delete from transports where id = $1`, t.ID)
	} else {
		_, err = tx.Exec(ctx, `update transports set title = '', note = '', updated_at = $2 where id = $1`, t.ID, tx.now)
	}
	return photos, err
}

// withdraw takes back the open offer of a driver.
func (tx *tx) withdraw(ctx context.Context, t market.Transport, driver string) error {
	offers, err := tx.offers(ctx, `o.transport = $1 and o.driver = $2`, t.ID, driver)
	if err != nil {
		return err
	}
	for _, o := range offers {
		if !o.Status.Open() {
			continue
		}
		if err := tx.moveOffer(ctx, t, &o, market.Reject, as{market.Driver, driver}); err != nil {
			return err
		}
	}
	return tx.reopenIfAlone(ctx, &t)
}

func digest(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// Appoint makes the person with this address a manager, who resolves disputes.
func (s *Store) Appoint(ctx context.Context, email string) error {
	tag, err := s.pool.Exec(ctx, `update people set role = 'manager' where email = lower($1)`, email)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	return err
}
