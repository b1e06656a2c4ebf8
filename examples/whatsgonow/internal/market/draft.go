package market

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Draft is what a sender types in to post a transport.
type Draft struct {
	Title      string `json:"title"`
	Note       string `json:"note"`
	From       Place  `json:"from"`
	To         Place  `json:"to"`
	Window     Window `json:"window"`
	Size       Size   `json:"size"`
	WeightKG   int    `json:"weight_kg"`
	PriceCents int    `json:"price_cents"`
	Photo      string `json:"photo,omitempty"`
}

// A Mistake is one thing to put right in what somebody typed in. Code is for programs
// (the front end translates it), Message for people who read the API's answers.
type Mistake struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Mistakes are all of them at once: nobody likes to be sent back twice.
type Mistakes []Mistake

func (ms Mistakes) Error() string {
	fields := make([]string, len(ms))
	for i, m := range ms {
		fields[i] = m.Field
	}
	return "to be put right: " + strings.Join(fields, ", ")
}

// Err is nil where there is no mistake.
func (ms Mistakes) Err() error {
	if len(ms) == 0 {
		return nil
	}
	return ms
}

// Add notes a mistake when wrong is true.
func (ms *Mistakes) Add(wrong bool, field, code, message string) {
	if wrong {
		*ms = append(*ms, Mistake{field, code, field + " " + message})
	}
}

// Text notes what is wrong with a text, which Tidy has been through.
func (ms *Mistakes) Text(field, text string, least, most int) {
	n := utf8.RuneCountInString(text)
	ms.Add(n == 0 && least > 0, field, "required", "is missing")
	ms.Add(n > 0 && n < least, field, "too_short", fmt.Sprintf("has fewer than %d characters", least))
	ms.Add(n > most, field, "too_long", fmt.Sprintf("has more than %d characters", most))
}

// Price notes what is wrong with a sum in cents.
func (ms *Mistakes) Price(field string, cents int) {
	ms.Add(cents == 0, field, "required", "is missing")
	ms.Add(cents != 0 && cents < 100, field, "too_small", "is less than 1 euro")
	ms.Add(cents > 500_000, field, "too_large", "is more than 5000 euros")
}

// Tidy takes away what nobody means to type: space around a text, control characters.
func Tidy(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' || r == utf8.RuneError {
			return -1
		}
		return r
	}, text))
}

// Tidy returns the draft as it is to be kept. Points are rounded to a hundredth of a
// degree, about a kilometre: enough to match routes, too little to find a front door.
func (d Draft) Tidy() Draft {
	coarse := func(p Place) Place {
		p.Name = Tidy(p.Name)
		p.Lat, p.Lng = math.Round(p.Lat*100)/100, math.Round(p.Lng*100)/100
		return p
	}
	d.Title, d.Note = Tidy(d.Title), Tidy(d.Note)
	d.From, d.To = coarse(d.From), coarse(d.To)
	return d
}

// Check returns everything that is wrong with a tidy draft.
func (d Draft) Check(now time.Time) Mistakes {
	var ms Mistakes
	ms.Text("title", d.Title, 3, 80)
	ms.Text("note", d.Note, 0, 1000)
	ms.place("from", d.From)
	ms.place("to", d.To)
	ms.Add(d.From.Name != "" && d.From.Point == d.To.Point, "to", "same_place", "is where it starts")
	ms.Add(d.Window.Start.IsZero(), "window.start", "required", "is missing")
	ms.Add(d.Window.End.IsZero(), "window.end", "required", "is missing")
	if !d.Window.Start.IsZero() && !d.Window.End.IsZero() {
		ms.Add(!d.Window.End.After(d.Window.Start), "window.end", "before_start", "is not after the start")
		ms.Add(!d.Window.End.After(now), "window.end", "past", "is over already")
		ms.Add(d.Window.End.After(now.AddDate(1, 0, 0)), "window.end", "too_late", "is more than a year ahead")
	}
	ms.Add(rank(d.Size) == len(sizes), "size", "unknown", "is none of small, medium, large, xlarge")
	ms.Add(d.WeightKG == 0, "weight_kg", "required", "is missing")
	ms.Add(d.WeightKG < 0, "weight_kg", "too_small", "is less than 1 kg")
	ms.Add(d.WeightKG > 1000, "weight_kg", "too_large", "is more than 1000 kg")
	ms.Price("price_cents", d.PriceCents)
	return ms
}

func (ms *Mistakes) place(field string, p Place) {
	ms.Text(field, p.Name, 2, 80)
	if p.Name != "" {
		ms.Point(field, p.Point)
	}
}

// Point notes a position that is not on the globe, or is none at all.
func (ms *Mistakes) Point(field string, p Point) {
	off := !(math.Abs(p.Lat) <= 85) || !(math.Abs(p.Lng) <= 180) || p == Point{}
	ms.Add(off, field, "no_position", "has no position on the map")
}
