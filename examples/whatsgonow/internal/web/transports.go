package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"whatsgonow/internal/market"
	"whatsgonow/internal/store"
)

// find answers which transports lie near a route:
// ?from=52.52,13.40&to=48.14,11.58&detour=50, and optional start, end, room, kg, want.
func (s *Server) find(w http.ResponseWriter, r *http.Request) error {
	route, mistakes := routeOf(r.URL.Query())
	if err := mistakes.Err(); err != nil {
		return err
	}
	who, err := s.who(r)
	if err != nil {
		return err
	}
	southWest, northEast := route.Box()
	near, err := s.Store.Near(r.Context(), southWest, northEast, who.ID)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, struct {
		RouteKM float64        `json:"route_km"`
		Matches []market.Match `json:"matches"`
	}{market.Distance(route.From, route.To), route.Matches(near)})
}

func routeOf(q url.Values) (market.Route, market.Mistakes) {
	var ms market.Mistakes
	number := func(field string, otherwise, least, most int) int {
		if q.Get(field) == "" {
			return otherwise
		}
		n, err := strconv.Atoi(q.Get(field))
		ms.Add(err != nil || n < least || n > most, field, "no_number", "is not a number between "+strconv.Itoa(least)+" and "+strconv.Itoa(most))
		return n
	}
	moment := func(field string) time.Time {
		if q.Get(field) == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, q.Get(field))
		ms.Add(err != nil, field, "no_time", "is not a time like 2026-11-23T08:00:00Z")
		return t
	}
	route := market.Route{
		From:        point(q.Get("from")),
		To:          point(q.Get("to")),
		MaxDetourKM: float64(number("detour", 50, 0, 300)),
		Leave:       market.Window{Start: moment("start"), End: moment("end")},
		Room:        market.Size(q.Get("room")),
		MaxKG:       number("kg", 0, 0, 100_000),
		WantCents:   number("want", 0, 0, 1_000_000),
	}
	ms.Point("from", route.From)
	ms.Point("to", route.To)
	ms.Add(route.Leave.Start.IsZero() != route.Leave.End.IsZero(), "start", "half", "and end belong together")
	return route, ms
}

var pointForm = regexp.MustCompile(`^(-?\d{1,3}(?:\.\d{1,9})?),(-?\d{1,3}(?:\.\d{1,9})?)$`)

// point reads "52.52,13.40"; what is none is the zero point, which Mistakes.Point refuses.
func point(text string) market.Point {
	m := pointForm.FindStringSubmatch(text)
	if m == nil {
		return market.Point{}
	}
	lat, _ := strconv.ParseFloat(m[1], 64) // the form above has made sure
	lng, _ := strconv.ParseFloat(m[2], 64)
	return market.Point{Lat: lat, Lng: lng}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// id returns the {id} of the path; what cannot be one is not found.
func id(r *http.Request) (string, error) {
	if v := r.PathValue("id"); uuid.MatchString(v) {
		return v, nil
	}
	return "", store.ErrNotFound
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, who store.Account) error {
	var d market.Draft
	if err := read(w, r, &d); err != nil {
		return err
	}
	d = d.Tidy()
	if err := d.Check(s.Now()).Err(); err != nil {
		return err
	}
	id, err := s.Store.Post(r.Context(), who.ID, d)
	if err != nil {
		return err
	}
	return s.show(w, r, http.StatusCreated, who, id)
}

func (s *Server) look(w http.ResponseWriter, r *http.Request) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	who, err := s.who(r)
	if err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, who, id)
}

// show answers with the transport as it is now: every change does, so that the front
// end needs no second question.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, who store.Account, id string) error {
	view, err := s.Store.Look(r.Context(), who, id)
	if err != nil {
		return err
	}
	return write(w, status, view)
}

func (s *Server) propose(w http.ResponseWriter, r *http.Request, who store.Account) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	var offer struct {
		PriceCents int    `json:"price_cents"`
		Note       string `json:"note"`
	}
	if err := read(w, r, &offer); err != nil {
		return err
	}
	var ms market.Mistakes
	offer.Note = market.Tidy(offer.Note)
	ms.Price("price_cents", offer.PriceCents)
	ms.Text("note", offer.Note, 0, 500)
	if err := ms.Err(); err != nil {
		return err
	}
	if _, err := s.Store.Propose(r.Context(), who, id, offer.PriceCents, offer.Note); err != nil {
		return err
	}
	return s.show(w, r, http.StatusCreated, who, id)
}

// act moves a transport on: /confirm, /pick-up, /deliver, /complete, /cancel, …
// Which verbs there are, and for whom, is the market's to say.
func (s *Server) act(w http.ResponseWriter, r *http.Request, who store.Account) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	var with struct {
		Code string `json:"code"`
	}
	if err := read(w, r, &with); err != nil {
		return err
	}
	if err := s.Store.Act(r.Context(), who, id, market.Verb(r.PathValue("verb")), with.Code); err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, who, id)
}

// answer moves an offer on: /accept, /reject, /counter (the sender's price), /propose
// (the driver's next).
func (s *Server) answer(w http.ResponseWriter, r *http.Request, who store.Account) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	var with struct {
		PriceCents int `json:"price_cents"`
	}
	if err := read(w, r, &with); err != nil {
		return err
	}
	verb := market.Verb(r.PathValue("verb"))
	if verb == market.Counter || verb == market.Propose {
		var ms market.Mistakes
		ms.Price("price_cents", with.PriceCents)
		if err := ms.Err(); err != nil {
			return err
		}
	}
	transport, err := s.Store.Answer(r.Context(), who, id, verb, with.PriceCents)
	if err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, who, transport)
}

func (s *Server) mine(w http.ResponseWriter, r *http.Request, who store.Account) error {
	sending, driving, err := s.Store.Mine(r.Context(), who.ID)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, map[string][]market.Transport{"sending": sending, "driving": driving})
}
