package web

import (
	"errors"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"whatsgonow/internal/market"
	"whatsgonow/internal/store"
)

// The __Host- prefix makes browsers keep the cookie to this host, over TLS, for all paths.
const cookieName = "__Host-session"

// who returns the account of the person who is signed in, or the zero Account.
func (s *Server) who(r *http.Request) (store.Account, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return store.Account{}, nil
	}
	a, err := s.Store.Session(r.Context(), cookie.Value)
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, nil
	}
	return a, err
}

func (s *Server) signedIn(h func(http.ResponseWriter, *http.Request, store.Account) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		who, err := s.who(r)
		if err != nil {
			return err
		}
		if who.ID == "" {
			return errNotSignedIn
		}
		return h(w, r, who)
	}
}

type credentials struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

func (c credentials) tidy() credentials {
	c.Name, c.Email = market.Tidy(c.Name), strings.ToLower(market.Tidy(c.Email))
	return c
}

// check judges a new account. Length is what makes a password strong; rules about its
// characters only make it hard to remember.
func (c credentials) check() market.Mistakes {
	var ms market.Mistakes
	ms.Text("name", c.Name, 2, 60)
	ms.Text("email", c.Email, 1, 254)
	if c.Email != "" {
		parsed, err := mail.ParseAddress(c.Email)
		ms.Add(err != nil || parsed.Address != c.Email, "email", "no_email", "is not a mail address")
	}
	ms.Text("password", c.Password, 10, 200)
	return ms
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	var c credentials
	if err := read(w, r, &c); err != nil {
		return err
	}
	c = c.tidy()
	if err := c.check().Err(); err != nil {
		return err
	}
	hash, err := s.Passwords.Hash(r.Context(), c.Password)
	if err != nil {
		return err
	}
	a, err := s.Store.Register(r.Context(), c.Name, c.Email, hash)
	if err != nil {
		return err
	}
	return s.open(w, r, http.StatusCreated, a)
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	var c credentials
	if err := read(w, r, &c); err != nil {
		return err
	}
	c = c.tidy()
	a, err := s.check(r, c.Email, c.Password)
	if err != nil {
		return err
	}
	return s.open(w, r, http.StatusOK, a)
}

// check returns the account that address and password open.
func (s *Server) check(r *http.Request, email, password string) (store.Account, error) {
	if len(password) > 1000 {
		return store.Account{}, errWrongPassword
	}
	a, hash, err := s.Store.Password(r.Context(), email)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Account{}, err
	}
	ok, err := s.Passwords.Matches(r.Context(), password, hash)
	if err == nil && !ok {
		err = errWrongPassword
	}
	return a, err
}

func (s *Server) open(w http.ResponseWriter, r *http.Request, status int, a store.Account) error {
	token, err := s.Store.SignIn(r.Context(), a.ID)
	if err != nil {
		return err
	}
	setCookie(w, token, store.SessionLife)
	return write(w, status, person{&a})
}

func setCookie(w http.ResponseWriter, token string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: int(life.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func dropCookie(w http.ResponseWriter) { setCookie(w, "", -time.Second) }

// A person of null is nobody: being a guest is not an error.
type person struct {
	Person *store.Account `json:"person"`
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) error {
	a, err := s.who(r)
	if err != nil {
		return err
	}
	if a.ID == "" {
		return write(w, http.StatusOK, person{nil})
	}
	return write(w, http.StatusOK, person{&a})
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request) error {
	if cookie, err := r.Cookie(cookieName); err == nil {
		if err := s.Store.SignOut(r.Context(), cookie.Value); err != nil {
			return err
		}
	}
	dropCookie(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// erase deletes the account. It asks for the password again: an open phone on a table
// must not be enough.
func (s *Server) erase(w http.ResponseWriter, r *http.Request, who store.Account) error {
	var c credentials
	if err := read(w, r, &c); err != nil {
		return err
	}
	if _, err := s.check(r, who.Email, c.Password); err != nil {
		return err
	}
	photos, err := s.Store.Erase(r.Context(), who.ID)
	if err != nil {
		return err
	}
	if err := s.Photos.Remove(photos...); err != nil {
		s.Log.Error("photos of an erased account stay until the next sweep", "cause", err.Error())
	}
	dropCookie(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
