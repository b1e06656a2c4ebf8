package deploy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is a time in which no rollout begins on a stage, as a person writes it:
//
//	Fri 16:00 - Mon 07:00 Europe/Berlin     every week
//	22:00 - 06:00                           every day
//	2026-12-24 - 2026-12-26                 once, both days included; also 2026-12-24 12:00
//
// A time is of the clock on the wall of the zone, which is UTC where none is named: at a change to or from summer time the window is
// an hour shorter or longer, and begins and ends when the clock says so.
type Window struct {
	text     string
	from, to edge
	zone     *time.Location
}

// edge is one end of a window, or a moment.
type edge struct {
	date    time.Time // in UTC, at midnight; zero: every week or every day
	weekly  bool
	weekday time.Weekday
	minutes int // since midnight, up to 24 * 60
	timed   bool
}

const (
	windowHint = `"Fri 16:00 - Mon 07:00 Europe/Berlin", "22:00 - 06:00" or "2026-12-24 - 2026-12-26"; UTC where no zone is named`
	momentHint = `"2026-12-18" or "2026-12-18 16:00 Europe/Berlin"; UTC where no zone is named`
	wholeDay   = 24 * 60
	saidLike   = "Mon 2006-01-02 15:04 MST"
)

// ParseWindow reads a window. ErrBadInput with what is wrong.
func ParseWindow(text string) (Window, error) {
	wrong := func(what string) (Window, error) {
		return Window{}, Hint(fmt.Errorf("%w: %s", ErrBadInput, what), windowHint)
	}
	rest, zone, err := cutZone(text, time.UTC)
	if err != nil {
		return Window{}, err
	}
	first, last, ok := strings.Cut(strings.ReplaceAll(rest, " – ", " - "), " - ")
	if !ok {
		return wrong("a window has two ends with a hyphen between them, and blanks around it")
	}
	w := Window{text: text, zone: zone}
	if w.from, err = parseEdge(first); err == nil {
		w.to, err = parseEdge(last)
	}
	switch {
	case err != nil:
		return wrong(err.Error())
	case w.from.weekly != w.to.weekly || w.from.date.IsZero() != w.to.date.IsZero():
		return wrong("both ends are days of the week, or dates, or times")
	}
	if !w.to.timed {
		w.to.minutes = wholeDay
	}
	switch {
	case w.from == w.to:
		return wrong("it ends when it begins")
	case !w.from.date.IsZero() && !w.from.at(w.from.date, zone).Before(w.to.at(w.to.date, zone)):
		return wrong("it ends before it begins")
	}
	return w, nil
}

// ParseMoment reads a date, with or without a time of the day and a zone. A date alone is its first moment, or with end the one after
// its last. zone counts where none is named.
func ParseMoment(text string, zone *time.Location, end bool) (time.Time, error) {
	rest, zone, err := cutZone(text, zone)
	if err != nil {
		return time.Time{}, err
	}
	e, err := parseEdge(rest)
	switch {
	case err != nil:
		return time.Time{}, Hint(fmt.Errorf("%w: %w", ErrBadInput, err), momentHint)
	case e.date.IsZero():
		return time.Time{}, Hint(fmt.Errorf("%w: %q has no date", ErrBadInput, text), momentHint)
	case end && !e.timed:
		e.minutes = wholeDay
	}
	return e.at(e.date, zone), nil
}

// cutZone takes the name of a time zone from the end of a text.
func cutZone(text string, otherwise *time.Location) (rest string, zone *time.Location, err error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return "", otherwise, nil
	}
	last := fields[len(fields)-1]
	if last != "UTC" && !strings.Contains(last, "/") {
		return strings.Join(fields, " "), otherwise, nil
	}
	if zone, err = time.LoadLocation(last); err != nil {
		return "", nil, Hint(fmt.Errorf("%w: %q is no time zone", ErrBadInput, last), "for example Europe/Berlin")
	}
	return strings.Join(fields[:len(fields)-1], " "), zone, nil
}

var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

func parseEdge(text string) (e edge, err error) {
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return e, fmt.Errorf("%q is neither a day nor a time", text)
	}
	day := fields[0]
	switch date, wrong := time.Parse(time.DateOnly, day); {
	case wrong == nil:
		e.date = date
	case slices.Contains(weekdays, day):
		e.weekly, e.weekday = true, time.Weekday(slices.Index(weekdays, day))
	case len(fields) == 1 && strings.Contains(day, ":"):
		fields = append([]string{""}, fields...)
	case strings.Count(day, "-") == 2:
		return e, fmt.Errorf("%q is no date of the calendar; dates are YYYY-MM-DD", day)
	default:
		return e, fmt.Errorf("%q is no day; days are %s, or YYYY-MM-DD", day, strings.Join(slices.Concat(weekdays[1:], weekdays[:1]), ", "))
	}
	if len(fields) == 2 {
		e.timed = true
		e.minutes, err = clockMinutes(fields[1])
	}
	return e, err
}

// clockMinutes reads 00:00 to 24:00.
func clockMinutes(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, wrongHour := strconv.Atoi(hour)
	m, wrongMinute := strconv.Atoi(minute)
	if !ok || len(hour) != 2 || len(minute) != 2 || wrongHour != nil || wrongMinute != nil || h < 0 || m < 0 || m > 59 || h*60+m > wholeDay {
		return 0, fmt.Errorf("%q is no time; times are 00:00 to 24:00", text)
	}
	return h*60 + m, nil
}

// at is the end on a day, by the clock of a zone.
func (e edge) at(day time.Time, zone *time.Location) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), 0, e.minutes, 0, 0, zone)
}

// Closed reports whether the window holds at a moment, and until when.
func (w Window) Closed(now time.Time) (until time.Time, yes bool) {
	if !w.from.date.IsZero() {
		until = w.to.at(w.to.date, w.zone)
		return until, !now.Before(w.from.at(w.from.date, w.zone)) && now.Before(until)
	}
	today := now.In(w.zone)
	for back := range 8 { // a weekly window began within the last seven days, a daily one yesterday at most
		began := today.AddDate(0, 0, -back)
		if w.from.weekly && began.Weekday() != w.from.weekday {
			continue
		}
		until = w.to.at(began.AddDate(0, 0, w.days()), w.zone)
		if !now.Before(w.from.at(began, w.zone)) && now.Before(until) {
			return until, true
		}
	}
	return time.Time{}, false
}

// days is how many days after the first one the window ends.
func (w Window) days() int {
	days := 0
	if w.from.weekly {
		days = int(w.to.weekday-w.from.weekday+7) % 7
	}
	switch {
	case days > 0 || w.to.minutes > w.from.minutes:
		return days
	case w.from.weekly:
		return 7
	}
	return 1
}

// closedUntil reports whether any of the windows holds, and when none of them does any more. Windows that follow each other are one.
func closedUntil(windows []string, now time.Time) (until time.Time, which string, err error) {
	at := now
	for range 100 { // windows that close each other for ever would never end
		again := false
		for _, text := range windows {
			w, err := ParseWindow(text)
			if err != nil {
				return until, which, err
			}
			if end, yes := w.Closed(at); yes {
				at, again = end, true
				if which == "" {
					which = text
				}
			}
		}
		if !again {
			break
		}
		until = at
	}
	return until, which, nil
}

// ParseDaily reads a time of the day with or without a zone: 03:00, 03:00 Europe/Berlin. It returns what finds the last such moment that is
// not after another one.
func ParseDaily(text string) (last func(now time.Time) time.Time, err error) {
	wrong := func(err error) error {
		return Hint(fmt.Errorf("%w: %w", ErrBadInput, err), `"03:00" or "03:00 Europe/Berlin"; UTC where no zone is named`)
	}
	rest, zone, err := cutZone(text, time.UTC)
	if err != nil {
		return nil, wrong(err)
	}
	minutes, err := clockMinutes(rest)
	if err == nil && minutes == wholeDay {
		err = fmt.Errorf("%q is no time of a day", rest)
	}
	if err != nil {
		return nil, wrong(err)
	}
	at := edge{minutes: minutes}
	return func(now time.Time) time.Time {
		today := now.In(zone)
		if moment := at.at(today, zone); !moment.After(now) {
			return moment
		}
		return at.at(today.AddDate(0, 0, -1), zone)
	}, nil
}
