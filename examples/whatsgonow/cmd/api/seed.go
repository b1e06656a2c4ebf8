package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"whatsgonow/internal/market"
	"whatsgonow/internal/password"
	"whatsgonow/internal/store"
)

// Everybody in the seed signs in with this. It is no secret, which is why a stage called
// prod is never seeded.
const seedPassword = "immer-der-nase-nach"

var (
	berlin   = at("Berlin", 52.52, 13.40)
	hamburg  = at("Hamburg", 53.55, 9.99)
	munich   = at("München", 48.14, 11.58)
	cologne  = at("Köln", 50.94, 6.96)
	leipzig  = at("Leipzig", 51.34, 12.37)
	dresden  = at("Dresden", 51.05, 13.74)
	hanover  = at("Hannover", 52.37, 9.73)
	nurembg  = at("Nürnberg", 49.45, 11.08)
	frankft  = at("Frankfurt am Main", 50.11, 8.68)
	stuttgt  = at("Stuttgart", 48.78, 9.18)
	bremen   = at("Bremen", 53.08, 8.80)
	rostock  = at("Rostock", 54.09, 12.10)
	freiburg = at("Freiburg", 47.99, 7.85)
	poznan   = at("Poznań", 52.41, 16.93)
	erfurt   = at("Erfurt", 50.98, 11.03)
)

func at(name string, lat, lng float64) market.Place {
	return market.Place{Name: name, Point: market.Point{Lat: lat, Lng: lng}}
}

var seedPeople = []struct{ name, email string }{
	{"Frieda Albers", "frieda@example.org"},
	{"Jonas Petersen", "jonas@example.org"},
	{"Małgorzata Nowak", "malgorzata@example.org"},
	{"Tilda Brandt", "tilda@example.org"},
	{"Aylin Demir", "aylin@example.org"},
	{"Ruben Krause", "ruben@example.org"},
}

var seedTransports = []struct {
	sender   int
	title    string
	note     string
	from, to market.Place
	days     int // until it starts
	size     market.Size
	kg, euro int
}{
	{0, "Kommode aus Omas Wohnung", "Zerlegt, zwei Teile. Im Erdgeschoss, ich helfe beim Tragen.", leipzig, hamburg, 1, market.Large, 38, 65},
	{0, "Fahrrad, 28 Zoll", "Vorderrad lässt sich herausnehmen.", berlin, leipzig, 2, market.Medium, 14, 30},
	{3, "Zwei Kisten Bücher", "Gut verpackt, bitte trocken halten.", berlin, munich, 1, market.Medium, 32, 48},
	{3, "Leseexemplare für die Messe", "", hamburg, leipzig, 4, market.Small, 9, 22},
	{2, "Nähmaschine (maszyna do szycia)", "Odbiór możliwy także wieczorem.", poznan, berlin, 2, market.Medium, 17, 35},
	{4, "Zimmerpflanze, 1,60 m", "Monstera. Darf nicht kippen und nicht frieren.", nurembg, munich, 1, market.Large, 12, 28},
	{4, "Schreibtischstuhl", "", cologne, frankft, 3, market.Large, 18, 32},
	{0, "Reisekoffer nachbringen", "Ist im Zug liegen geblieben, liegt bei Freunden.", hanover, berlin, 0, market.Medium, 19, 25},
	{3, "Regalbretter, Eiche", "2,20 m lang.", dresden, leipzig, 2, market.XLarge, 44, 55},
	{4, "Ersatzteil für einen Oldtimer", "Kotflügel, in Folie.", stuttgt, freiburg, 5, market.Large, 9, 30},
	{2, "Kinderbett", "Zerlegt, Schrauben liegen bei.", bremen, rostock, 3, market.Large, 27, 40},
	{0, "Paket mit Einmachgläsern", "Zerbrechlich, bitte nicht stapeln.", erfurt, berlin, 1, market.Small, 8, 18},
}

// seed fills an empty database by doing what people would: register, post, offer, agree.
// Where the first of them exists already, nothing happens.
func seed(ctx context.Context, log *slog.Logger, st *store.Store) error {
	if os.Getenv("LOTSE_STAGE") == "prod" {
		return errors.New("a stage called prod is not seeded")
	}
	hash, err := password.NewKeeper(1).Hash(ctx, seedPassword)
	if err != nil {
		return err
	}
	people := make([]store.Account, len(seedPeople))
	for i, p := range seedPeople {
		people[i], err = st.Register(ctx, p.name, p.email, hash)
		if i == 0 && errors.Is(err, store.ErrEmailTaken) {
			log.Info("seeded already")
			return nil
		}
		if err != nil {
			return err
		}
	}
	ids, err := seedPosts(ctx, st, people)
	if err != nil {
		return err
	}
	if err := seedDeals(ctx, st, people, ids); err != nil {
		return err
	}
	log.Info("seeded", "people", len(people), "transports", len(ids))
	return nil
}

func seedPosts(ctx context.Context, st *store.Store, people []store.Account) (ids []string, err error) {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for _, t := range seedTransports {
		start := today.AddDate(0, 0, t.days).Add(8 * time.Hour)
		draft := market.Draft{
			Title: t.title, Note: t.note, From: t.from, To: t.to,
			Window: market.Window{Start: start, End: start.AddDate(0, 0, 3).Add(12 * time.Hour)},
			Size:   t.size, WeightKG: t.kg, PriceCents: t.euro * 100,
		}.Tidy()
		if err := draft.Check(time.Now()).Err(); err != nil {
			return nil, err
		}
		id, err := st.Post(ctx, people[t.sender].ID, draft)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// seedDeals leaves one transport with two offers, one countered, one on the road.
func seedDeals(ctx context.Context, st *store.Store, people []store.Account, ids []string) error {
	frieda, jonas, tilda, ruben := people[0], people[1], people[3], people[5]
	var err error
	do := func(step func() error) {
		if err == nil {
			err = step()
		}
	}
	var countered, agreed string
	do(func() error {
		_, err := st.Propose(ctx, jonas, ids[0], 7000, "Fahre Freitag mit dem Kombi.")
		return err
	})
	do(func() error { _, err := st.Propose(ctx, ruben, ids[0], 6000, ""); return err })
	do(func() (err error) {
		countered, err = st.Propose(ctx, ruben, ids[2], 6000, "Passt noch in den Kofferraum.")
		return err
	})
	do(func() error { _, err := st.Answer(ctx, tilda, countered, market.Counter, 5200); return err })
	do(func() (err error) {
		agreed, err = st.Propose(ctx, jonas, ids[7], 2500, "Bin eh unterwegs.")
		return err
	})
	do(func() error { _, err := st.Answer(ctx, frieda, agreed, market.Accept, 0); return err })
	do(func() error { return st.Act(ctx, frieda, ids[7], market.Confirm, "") })
	do(func() error { return st.Act(ctx, jonas, ids[7], market.PickUp, "") })
	return err
}
