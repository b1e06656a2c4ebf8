package privacy_test

import (
	"testing"

	"github.com/lotse-eu/lotse/internal/privacy"
)

func TestScrub(t *testing.T) {
	for text, want := range map[string]string{
		"write to ada.lovelace+x@mail.example.org, now":                "write to [mail], now",
		"ada%40example.org":                                            "[mail]",
		"by Ada King Lovelace <ada@example.org> yesterday":             "by [name] [mail] yesterday",
		"<jürgen@müller.example>":                                      "<[mail]>",
		"Author: Ada Lovelace\nDate: today":                            "Author: [name]\nDate: today",
		"    Signed-off-by: Ada":                                       "    Signed-off-by: [name]",
		"dial tcp 192.0.2.17:5432: connection refused":                 "dial tcp [address]:5432: connection refused",
		"[2001:db8::1]:443 and 2001:db8:0:0:1:2:3:4.":                  "[[address]]:443 and [address].",
		"from ::ffff:192.0.2.1 to fe80::1%eth0":                        "from [address] to [address]%eth0",
		"host:2001:db8::5 said no":                                     "host[address] said no",
		"ip-192-0-2-1.internal, 02:42:ac:11:00:02":                     "[address].internal, [address]",
		"call +49 (30) 901820-12, 0049 30 9018201, 030/90182":          "call [number], [number], [number]",
		"(415) 555-0100":                                               "[number]",
		"/home/somebody/shop/web /Users/Ada/x C:\\Users\\Ada\\y":       "/home/[name]/shop/web /Users/[name]/x C:\\Users\\[name]\\y",
		"postgres://app:pa55@db.example.org/shop":                      "postgres://[token]@db.example.org/shop",
		"PASSWORD=hunter2hunter \"api_key\": \"abcdef123\"":            "PASSWORD=[token] \"api_key\": \"[token]\"",
		"Authorization: Bearer abcdefgh12345678":                       "Authorization: [token] [token]",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl":            "[token]",
		"key ghp_0123456789abcdefABCDEF0123456789abcd":                 "key [token]",
		"k " + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3":                     "k [token]",
		"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----": "[token]",
		"ADA   lovelace broke it; ada-lovelace too":                    "[name] broke it; [name] too",
	} {
		if got := privacy.Scrub(text, "Ada Lovelace", "Max"); got != want {
			t.Errorf("Scrub(%q)\n got %q\nwant %q", text, got, want)
		}
		if got := privacy.Scrub(want, "Ada Lovelace", "Max"); got != want {
			t.Errorf("Scrub of what it returned, %q, is %q", want, got)
		}
	}
}

// What is said of a build that failed stays readable.
func TestScrubLeavesTheRest(t *testing.T) {
	for _, text := range []string{
		"src/pages/index.tsx(12,5): error TS2345: Argument of type 'string' is not assignable",
		"2026-11-05 12:30:45.123 +0000 UTC", "2026-11-05T12:30:45+01:00", "took 00:01:23", "0.1 s, 12.5 MiB, 1,000,000",
		"npm error 404 react@18.2.0 @types/node@20", "std::fs::read, core::vec", "sha256:3f2a9c1b77de0123456789abcdef0123456789abcdef0123456789abcdef0123",
		"unexpected token: }", "max retries is 3", "node v20.20.0, go1.26.8", "listening on port 41233", "  at Object.<anonymous> (web/src/app.test.ts:12:5)",
		"exit code 1", "https://dev.shop.localhost:8443/api/health answered 503", "a ratio of 1:2:3", "::", "[name] [mail] [token] [address]",
	} {
		if got := privacy.Scrub(text, "Max"); got != text {
			t.Errorf("Scrub(%q) = %q", text, got)
		}
	}
}
