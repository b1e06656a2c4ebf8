package market

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func good() Draft {
	return Draft{
		Title: "Kommode", From: Place{"Leipzig", leipzig}, To: Place{"Hamburg", hamburg},
		Window: Window{now.Add(time.Hour), now.Add(24 * time.Hour)}, Size: Large, WeightKG: 30, PriceCents: 6000,
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Draft)
		want   string // "field code", separated by commas
	}{
		{"good", func(*Draft) {}, ""},
		{"all at once", func(d *Draft) { *d = Draft{} },
			"title required, from required, to required, window.start required, window.end required, size unknown, weight_kg required, price_cents required"},
		{"turned window", func(d *Draft) { d.Window.Start, d.Window.End = d.Window.End, d.Window.Start }, "window.end before_start"},
		{"past", func(d *Draft) { d.Window = Window{now.Add(-2 * time.Hour), now.Add(-time.Hour)} }, "window.end past"},
		{"no way", func(d *Draft) { d.To = d.From }, "to same_place"},
		{"nowhere", func(d *Draft) { d.To.Lat = 123 }, "to no_position"},
		{"novel", func(d *Draft) { d.Note = strings.Repeat("ä", 1001) }, "note too_long"},
		{"umlauts count once", func(d *Draft) { d.Title = strings.Repeat("ä", 80) }, ""},
		{"a lorry load", func(d *Draft) { d.WeightKG = 1001; d.PriceCents = 99 }, "weight_kg too_large, price_cents too_small"},
	} {
		d := good()
		c.change(&d)
		var got []string
		for _, m := range d.Tidy().Check(now) {
			got = append(got, m.Field+" "+m.Code)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: got  %v\nwant %s", c.name, got, c.want)
		}
	}
}

func TestTidyKeepsNoFrontDoor(t *testing.T) {
	d := good()
	d.From.Point, d.Title = Point{51.339695, 12.373075}, "  Kommode\x00\t\u0007 "
	got := d.Tidy()
	if got.From.Point != (Point{51.34, 12.37}) || got.Title != "Kommode" {
		t.Errorf("Tidy = %v, %q", got.From.Point, got.Title)
	}
}

func TestSizesFitLargerOnes(t *testing.T) {
	if !slices.IsSortedFunc(sizes, func(a, b Size) int { return rank(a) - rank(b) }) || XLarge.Fits(Small) || !Small.Fits(XLarge) {
		t.Error("sizes are out of order")
	}
}
