package privacy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/rand/v2"
	"strings"
	"sync"
	"unicode/utf8"
)

// Masker replaces values of people by invented ones of the same form. What a value becomes depends on the key, the kind and the value
// alone, so that one value becomes the same in every column of its kind and what was joined stays joined. Who has no key can neither
// compute back nor try values out: throw it away after the copy. It is safe for concurrent use.
//
// The rule is HMAC-SHA-256 (RFC 2104) of kind and value. Where numbers must stay different, it is a permutation of all numbers of that length
// (permute), which has no number that becomes itself.
type Masker struct {
	rules Rules
	block cipher.Block // of permute
	hands sync.Pool    // *hand
}

// Rules is what a copy asks of all columns of a kind together, so that the same value becomes the same in all of them.
type Rules struct {
	Unique map[Kind]bool // some column of the kind must be unique: values are told apart, at the price that Mask names
	Limit  map[Kind]int  // of kinds that grow (Kind.Grows): most characters that fit into every column of the kind; 0: no limit
}

// NewMasker takes a key of any length; 32 random bytes are usual.
func NewMasker(key []byte, rules Rules) *Masker {
	derive := func(purpose string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(purpose))
		return mac.Sum(nil)
	}
	block, err := aes.NewCipher(derive("permute")[:16])
	if err != nil {
		panic(err) // 16 bytes are the length of a key of AES-128
	}
	m := &Masker{rules: rules, block: block}
	m.hands.New = func() any {
		return &hand{mac: hmac.New(sha256.New, derive("values")), source: rand.NewChaCha8([32]byte{})}
	}
	return m
}

// hand is what one goroutine works with.
type hand struct {
	mac    hash.Hash
	source *rand.ChaCha8
	sum    [sha256.Size]byte
}

// below is a number from 0 to n-1. n is small: the bias is below 2⁻⁵⁰.
func (h *hand) below(n int) int { return int(h.source.Uint64() % uint64(n)) }

// with gives a stream of random numbers that is the same for the same kind and value.
func (m *Masker) with(kind Kind, value string, do func(h *hand) string) string {
	h, _ := m.hands.Get().(*hand)
	defer m.hands.Put(h)
	h.mac.Reset()
	h.mac.Write([]byte(kind))
	h.mac.Write([]byte{0})
	h.mac.Write([]byte(value))
	h.mac.Sum(h.sum[:0])
	h.source.Seed(h.sum)
	return do(h)
}

// Mask says what becomes of a value. Empty values and blanks stay, as they tell nothing.
//
//	mail         NAME@LABEL.example: a domain that never has mail (RFC 2606); what was in one domain is in one; case is kept apart
//	phone        a number of the ranges for films (Germany, Britain, France, North America); of other countries, and where phones must be
//	             unique: one of its country with 15 digits, which nobody has
//	names, city  invented, told by their q; as many words; a whole name becomes what its parts would
//	street       invented, with another number
//	postcode     its first two digits or letters, then 0 or A
//	birthday     the first of January of its year
//	iban, card   same country, same length, valid checksum; a German bank code that no bank has
//	id           other digits and letters in the same places; a valid German tax number stays one
//	ip, mac      240.0.0.0/4 (RFC 1112), 2001:db8::/32 (RFC 3849), locally administered
//	coordinates  a hundredth of a degree somewhere in its field of a twentieth (5.6 km from south to north, 3.5 km from west to east at 51°)
//	url          another host (.example), other words in the same places
//	text         invented words in place of words, digits of digits
//	token        other letters and digits in the same places; what says how a password is hashed stays
//	drop         nothing
//
// A value that is not what its kind says (n/a in a column of mails) gets other letters and digits in the same places.
func (m *Masker) Mask(kind Kind, value string) string {
	if kind == Keep || strings.TrimSpace(value) == "" {
		return value
	}
	rule, known := rules[kind]
	if !known {
		return ""
	}
	masked, ok := rule(m, value)
	if !ok {
		masked = m.shape(kind, value)
		if kind.Coarse() {
			masked = strings.Map(zero, masked)
		}
	}
	return Fit(masked, m.rules.Limit[kind])
}

// rules are filled by functions that say false to what is not of their kind. A kind that is not here is left out.
var rules = map[Kind]func(*Masker, string) (string, bool){
	Mail: (*Masker).mail, Phone: (*Masker).phone, Username: (*Masker).username,
	FirstName: always((*Masker).firstName), LastName: always((*Masker).lastName), Name: always((*Masker).name),
	Street: always((*Masker).street), Postcode: always((*Masker).postcode), City: always((*Masker).city), Address: always((*Masker).address),
	Birthday: (*Masker).birthday, IBAN: (*Masker).iban, BIC: (*Masker).bic, Card: (*Masker).card, ID: always((*Masker).id),
	IP: (*Masker).ip, MAC: (*Masker).mac, Coordinates: (*Masker).coordinates, URL: (*Masker).url,
	Text: always((*Masker).text), Token: always((*Masker).token),
}

func zero(r rune) rune {
	if r >= '1' && r <= '9' {
		return '0'
	}
	return r
}

func always(rule func(*Masker, string) string) func(*Masker, string) (string, bool) {
	return func(m *Masker, value string) (string, bool) { return rule(m, value), true }
}

// Fit cuts what is longer than limit characters; 0: nothing is. Kinds that must stay different have room made before (see mail).
func Fit(value string, limit int) string {
	if limit == 0 || utf8.RuneCountInString(value) <= limit {
		return value
	}
	return strings.TrimSpace(string([]rune(value)[:limit]))
}

// shape puts other letters and digits into the places of the ones that are there. A value of 4 characters or more never becomes itself.
func (m *Masker) shape(kind Kind, value string) string {
	return m.with(kind, value, func(h *hand) string {
		masked := h.shape(value)
		for range 8 {
			if masked != value {
				break
			}
			masked = h.shape(value)
		}
		return masked
	})
}

func (h *hand) shape(value string) string {
	hexadecimal := strings.IndexFunc(value, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef-", r) }) < 0
	return strings.Map(func(r rune) rune {
		switch {
		case hexadecimal && r != '-':
			return rune("0123456789abcdef"[h.below(16)])
		case r >= '0' && r <= '9':
			return '0' + rune(h.below(10))
		case r >= 'A' && r <= 'Z':
			return 'A' + rune(h.below(26))
		case r >= 'a' && r <= 'z', r >= utf8.RuneSelf: // a letter of another alphabet tells as much
			return 'a' + rune(h.below(26))
		}
		return r
	}, value)
}

// rounds of the Feistel network: more than the four that make it a pseudorandom permutation against one who may ask both ways
// (Luby and Rackoff 1988).
const rounds = 8

// permute replaces digits by those that the number becomes: all numbers of this length are one cycle, so none becomes itself and no two
// become one. It is p⁻¹(p(x)+1) for a Feistel network p on the two halves (Black and Rogaway 2002, with AES as the round function). Of up to
// 36 digits; tweak makes it another permutation.
func (m *Masker) permute(tweak string, digits []byte) {
	low := len(digits) / 2
	n := network{block: m.block, moduli: [2]uint64{power(len(digits) - low), power(low)}}
	sum := sha256.Sum256([]byte(tweak))
	copy(n.in[8:], sum[:6])
	n.in[14] = byte(len(digits))
	halves := [2]uint64{number(digits[:len(digits)-low]), number(digits[len(digits)-low:])}
	for i := range rounds {
		n.round(&halves, i, false)
	}
	if halves[1] = (halves[1] + 1) % n.moduli[1]; halves[1] == 0 {
		halves[0] = (halves[0] + 1) % n.moduli[0]
	}
	for i := rounds - 1; i >= 0; i-- {
		n.round(&halves, i, true)
	}
	write(digits[:len(digits)-low], halves[0])
	write(digits[len(digits)-low:], halves[1])
}

type network struct {
	block   cipher.Block
	moduli  [2]uint64
	in, out [16]byte
}

// round adds to one half what the other says, or takes it away.
func (n *network) round(halves *[2]uint64, i int, back bool) {
	to := i % 2
	binary.BigEndian.PutUint64(n.in[:8], halves[1-to])
	n.in[15] = byte(i)
	n.block.Encrypt(n.out[:], n.in[:])
	by, modulus := binary.BigEndian.Uint64(n.out[:8])%n.moduli[to], n.moduli[to]
	if back {
		by = modulus - by
	}
	halves[to] = (halves[to] + by) % modulus
}

func power(digits int) uint64 {
	p := uint64(1)
	for range digits {
		p *= 10
	}
	return p
}

func number(digits []byte) (n uint64) {
	for _, d := range digits {
		n = n*10 + uint64(d-'0')
	}
	return n
}

func write(digits []byte, n uint64) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
}
