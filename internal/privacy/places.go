package privacy

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// postcode keeps the first two: a German region of two digits has 100,000 people and more.
func (m *Masker) postcode(value string) string {
	kept := 0
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return r
		}
		kept++
		switch {
		case kept <= 2:
			return r
		case unicode.IsDigit(r):
			return '0'
		}
		return 'A'
	}, value)
}

func (m *Masker) city(value string) string {
	masked := m.with(City, strings.ToLower(strings.TrimSpace(value)), func(h *hand) string {
		return title(h.invent(3)) + []string{"stadt", "dorf", "hausen", "berg", "heim", "burg"}[h.below(6)]
	})
	return m.apart(City, value, likeCase(value, masked))
}

// street takes the name of the street by itself, so that neighbours stay in one street.
func (m *Masker) street(value string) string {
	value = strings.TrimSpace(value)
	name := strings.TrimRightFunc(value, func(r rune) bool { return !unicode.IsLetter(r) || len(value) == 0 })
	if at := houseNumber.FindStringIndex(value); at != nil {
		name = value[:at[0]]
	}
	masked := m.with(Street, strings.ToLower(name), func(h *hand) string {
		return title(h.invent(3)) + []string{"straße", "weg", "allee", "gasse", "platz"}[h.below(5)]
	})
	if len(name) < len(value) {
		masked += m.with(Street+" number", value, func(h *hand) string { return " " + strconv.Itoa(1+h.below(199)) })
	}
	return m.apart(Street, value, masked)
}

var (
	houseNumber = regexp.MustCompile(`\s*\d+\s*[a-zA-Z]?(\s*[-/]\s*\d+\s*[a-zA-Z]?)?$`)
	postTown    = regexp.MustCompile(`^\s*((?:[A-Z]{1,2}-)?\d{2}-?\d{2,3})\s+(\pL.*)$`) // 10115 Berlin, D-10115 Berlin, 00-950 Warszawa
)

// countries may stay at the end of an address.
var countries = []string{"deutschland", "germany", "österreich", "austria", "schweiz", "switzerland", "suisse", "polska", "poland", "polen", "france", "frankreich",
	"nederland", "netherlands", "niederlande", "belgien", "belgium", "de", "at", "ch", "pl", "fr", "nl", "be"}

// address takes its parts, at commas and ends of lines, by what they look like, so that they become what the columns of parts become.
func (m *Masker) address(value string) string {
	var out strings.Builder
	for rest, first := value, true; rest != ""; first = false {
		end := strings.IndexAny(rest, ",;\n")
		part, separator := rest, ""
		if end >= 0 {
			part, separator = rest[:end], rest[end:end+1]
		}
		rest = rest[len(part)+len(separator):]
		out.WriteString(m.part(part, first) + separator)
	}
	return out.String()
}

func (m *Masker) part(part string, first bool) string {
	trimmed := strings.TrimSpace(part)
	if trimmed == "" {
		return part
	}
	blank := part[:strings.Index(part, trimmed)]
	for _, c := range countries {
		if strings.EqualFold(c, trimmed) && !first {
			return part
		}
	}
	if found := postTown.FindStringSubmatch(trimmed); found != nil {
		return blank + m.postcode(found[1]) + " " + m.city(found[2])
	}
	if houseNumber.MatchString(trimmed) || first {
		return blank + m.street(trimmed)
	}
	return blank + m.city(trimmed)
}

var years = regexp.MustCompile(`^(?:(\d{4})-\d{2}-\d{2}|\d{1,2}([./])\d{1,2}([./])(\d{4})|(\d{4})(\d{2})(\d{2}))([T ].*)?$`)

// birthday keeps the year, and of a time nothing. That there is no end stays.
func (m *Masker) birthday(value string) (string, bool) {
	if v := strings.TrimSpace(value); v == "infinity" || v == "-infinity" {
		return v, true
	}
	found := years.FindStringSubmatch(strings.TrimSpace(value))
	if found == nil {
		return "", false
	}
	rest := strings.Map(zero, found[8])
	switch {
	case found[1] != "":
		return found[1] + "-01-01" + rest, true
	case found[4] != "":
		return "01" + found[2] + "01" + found[3] + found[4] + rest, true
	}
	return found[5] + "0101" + rest, true
}

// ip keeps what stands behind a slash.
func (m *Masker) ip(value string) (string, bool) {
	value = strings.TrimSpace(value)
	address, bits, network := strings.Cut(value, "/")
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "", false
	}
	masked := m.address4or6(ip.Unmap().WithZone(""))
	if !network {
		return masked.String(), true
	}
	n, err := strconv.Atoi(bits)
	if err != nil {
		return "", false
	}
	if prefix, err := ip.Prefix(n); err == nil && prefix.Addr() == ip { // a network has nothing behind its bits, else cidr refuses it
		if of, err := masked.Prefix(n); err == nil {
			masked = of.Addr()
		}
	}
	return masked.String() + "/" + bits, true
}

func (m *Masker) address4or6(ip netip.Addr) netip.Addr {
	var out netip.Addr
	m.with(IP, ip.String(), func(h *hand) string {
		if ip.Is4() {
			n := uint32(h.source.Uint64())&0x0fffffff | 0xf0000000
			if m.rules.Unique[IP] {
				n = m.anyAddress(ip)
			}
			out = netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			return ""
		}
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		binary.BigEndian.PutUint64(b[4:], h.source.Uint64())
		binary.BigEndian.PutUint32(b[12:], uint32(h.source.Uint64()))
		out = netip.AddrFrom16(b)
		return ""
	})
	return out
}

// anyAddress is a permutation of all addresses of IPv4: the one of ten digits, walked until it is one.
func (m *Masker) anyAddress(ip netip.Addr) uint32 {
	b := ip.As4()
	digits := make([]byte, 10)
	write(digits, uint64(binary.BigEndian.Uint32(b[:])))
	for {
		m.permute("ip", digits)
		if n := number(digits); n <= math.MaxUint32 {
			return uint32(n)
		}
	}
}

// mac has 46 bits; its first byte says that it is administered locally (IEEE 802, clause 8.2).
func (m *Masker) mac(value string) (string, bool) {
	compact := strings.ToLower(strings.Map(func(r rune) rune {
		if strings.ContainsRune(":-. ", r) {
			return -1
		}
		return r
	}, value))
	if bytes, err := hex.DecodeString(compact); err != nil || len(bytes) != 6 && len(bytes) != 8 {
		return "", false
	}
	return m.with(MAC, compact, func(h *hand) string {
		masked := h.shape(strings.Repeat("a", len(compact)))
		out := []byte(value)
		for i, next := 0, 0; i < len(out); i++ {
			if strings.IndexByte(":-. ", out[i]) >= 0 {
				continue
			}
			out[i] = masked[next]
			if next == 1 {
				out[i] = "26ae"[h.below(4)]
			}
			next++
		}
		return spacedLike(value, likeCase(value, string(out)))
	}), true
}

// field is the side of the fields on the map, in degrees: a town is not left, and a house is not found.
const field = 0.05

var decimals = regexp.MustCompile(`-?\d{1,3}\.\d+`)

// coordinates changes every number with decimals in the value, and points of PostGIS (EWKB in hexadecimal). Numbers of one decimal are
// coarser than a field and stay.
func (m *Masker) coordinates(value string) (string, bool) {
	if masked, ok := ewkb(value, m.moved); ok {
		return masked, true
	}
	if strings.ContainsFunc(decimals.ReplaceAllString(value, ""), func(r rune) bool { return unicode.IsLetter(r) && !strings.ContainsRune(wkt, unicode.ToUpper(r)) }) {
		return "", false
	}
	return decimals.ReplaceAllStringFunc(value, m.moved), true
}

// wkt are the letters of the words POINT, LINESTRING, POLYGON, MULTI, SRID, Z, M, EMPTY and of GeoJSON's type and coordinates.
const wkt = "POINTLESRGYMUDZAC"

// moved goes to one of the hundredths of a degree in the field, as many decimals as there were.
func (m *Masker) moved(text string) string {
	_, fraction, _ := strings.Cut(text, ".")
	degrees, err := strconv.ParseFloat(text, 64)
	if err != nil || len(fraction) < 2 {
		return text
	}
	return m.with(Coordinates, text, func(h *hand) string {
		steps := int(math.Floor(degrees/field))*hundredths + h.below(hundredths)
		masked := strconv.FormatFloat(float64(steps)/100, 'f', 2, 64)
		if masked == text {
			masked = strconv.FormatFloat(float64(steps-steps%hundredths+(steps+1)%hundredths)/100, 'f', 2, 64)
		}
		return masked + strings.Repeat("0", len(fraction)-2)
	})
}

const hundredths = 5 // in a field

// ewkb changes the numbers of one point: order of bytes, type 1 with the flag of an SRID, two numbers. Other shapes are not read.
func ewkb(value string, change func(string) string) (string, bool) {
	bytes, err := hex.DecodeString(value)
	if err != nil || len(bytes) < 21 || bytes[0] > 1 {
		return "", false
	}
	var order binary.ByteOrder = binary.BigEndian
	if bytes[0] == 1 {
		order = binary.LittleEndian
	}
	at := 5
	switch kind := order.Uint32(bytes[1:]); {
	case kind == 1 && len(bytes) == 21:
	case kind == 1|0x20000000 && len(bytes) == 25:
		at = 9
	default:
		return "", false
	}
	for ; at < len(bytes); at += 8 {
		degrees := math.Float64frombits(order.Uint64(bytes[at:]))
		changed, err := strconv.ParseFloat(change(strconv.FormatFloat(degrees, 'f', 7, 64)), 64)
		if err != nil {
			return "", false
		}
		order.PutUint64(bytes[at:], math.Float64bits(changed))
	}
	changed := hex.EncodeToString(bytes)
	if value == strings.ToUpper(value) {
		changed = strings.ToUpper(changed)
	}
	return changed, true
}

// onHundredths reports whether no number of a value says more than a hundredth of a degree.
func onHundredths(value string) bool {
	fine := false
	look := func(text string) string {
		_, fraction, _ := strings.Cut(text, ".")
		fine = fine || len(fraction) > 2 && strings.Trim(fraction[2:], "0") != ""
		return text
	}
	if _, ok := ewkb(value, look); !ok {
		decimals.ReplaceAllStringFunc(value, look)
	}
	return !fine
}

// url keeps the scheme and the ending of a file.
func (m *Masker) url(value string) (string, bool) {
	u, err := url.Parse(strings.TrimSpace(value))
	if err != nil || u.Scheme == "" && !strings.Contains(value, "/") {
		return "", false
	}
	if u.Scheme == "mailto" {
		mail, ok := m.mail(u.Opaque)
		return "mailto:" + mail, ok
	}
	if u.Opaque != "" {
		return "", false
	}
	var out strings.Builder
	if u.Scheme != "" {
		out.WriteString(u.Scheme + ":")
	}
	if u.Host != "" {
		out.WriteString("//" + m.with(URL+" host", strings.ToLower(u.Hostname()), func(h *hand) string { return h.random(6) }) + ".example")
	}
	for i, segment := range strings.Split(u.EscapedPath(), "/") {
		if i > 0 {
			out.WriteByte('/')
		}
		if segment != "" {
			out.WriteString(m.segment(value, segment))
		}
	}
	if u.RawQuery != "" {
		out.WriteString("?" + m.shape(URL, value+u.RawQuery)[len(value):])
	}
	return out.String(), true
}

func (m *Masker) segment(whole, segment string) string {
	name, ending := segment, ""
	if at := strings.LastIndexByte(segment, '.'); at > 0 && len(segment)-at <= 5 {
		name, ending = segment[:at], segment[at:]
	}
	return m.with(URL, whole+"\x00"+name, func(h *hand) string { return h.random(min(max(len(name), 3), 12)) }) + ending
}
