package leaks

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
	hexa   = "0123456789abcdef"
	base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	base62 = digits + lower + upper
)

// made is n random characters. Every key of these tests is made while they run, so that no file of the repository carries one. The seed
// is fixed: what an entropy of 3.5 bits lets through is then the same each time.
func made(r *rand.Rand, alphabet string, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(out)
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(20, 26)) }

func scanner(t testing.TB) *Scanner {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pem is a block of PEM with random content.
func pem(r *rand.Rand, kind string, lines int) string {
	text := "-----BEGIN " + kind + "-----\n"
	for range lines {
		text += made(r, base62+"+/", 64) + "\n"
	}
	return text + "-----END " + kind + "-----\n"
}

func TestKeysAreFound(t *testing.T) {
	r := seeded()
	s := scanner(t)
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"role":"service_role","iss":"supabase","iat":1700000000}`)) + "." + made(r, base62, 43)
	for _, c := range []struct{ rule, file, text string }{
		{"aws-access-token", "config.ts", `const id = "AK` + `IA` + made(r, base32, 16) + `"`},
		{"github-pat", "ci.yml", "token: gh" + "p_" + made(r, base62, 36)},
		{"github-fine-grained-pat", "ci.yml", "token: github_" + "pat_" + made(r, base62, 82)},
		{"github-oauth", "a.go", `x := "gh` + `o_` + made(r, base62, 36) + `"`},
		{"gitlab-pat", "a.sh", "export T=gl" + "pat-" + made(r, base62, 20)},
		{"slack-bot-token", "bot.py", `t = "xo` + `xb-` + made(r, digits, 12) + "-" + made(r, digits, 12) + "-" + made(r, base62, 24) + `"`},
		{"slack-webhook-url", "notify.js", `post("https://hooks.slack` + `.com/services/T` + made(r, base62, 8) + "/B" + made(r, base62, 8) + "/" + made(r, base62, 24) + `")`},
		{"stripe-access-token", "pay.rb", `Stripe.key = "sk` + `_live_` + made(r, base62, 24) + `"`},
		{"private-key", "deploy.pem", pem(r, "RSA PRIV"+"ATE KEY", 25)},
		{"private-key", "k8s.yaml", "data: |\n" + pem(r, "PRIV"+"ATE KEY", 3)},
		{"private-key", "id_ed25519", pem(r, "OPENSSH PRIV"+"ATE KEY", 6)},
		{"private-key", "rsa8192.pem", pem(r, "PRIV"+"ATE KEY", 100)},
		{"npm-access-token", ".npmrc", "//registry.example.org/:_authToken=np" + "m_" + made(r, digits+lower, 36)},
		{"jwt", "client.ts", `createClient(url, "` + jwt + `")`},
		{"sendgrid-api-token", "mail.go", `key := "S` + `G.` + made(r, digits+lower+upper, 66) + `"`},
		{"gcp-api-key", "maps.html", `<script src="x?key=AI` + `za` + made(r, base62, 35) + `">`},
		{"openai-api-key", "ai.py", `k = "sk-` + `proj-` + made(r, base62, 74) + "T3Blbk" + "FJ" + made(r, base62, 74) + `"`},
		{"anthropic-api-key", "ai.py", `k = "sk-` + `ant-api03-` + made(r, base62, 93) + `AA"`},
		{"age-secret-key", "keys.txt", "AGE-SECRET" + "-KEY-1" + made(r, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)},
		{"digitalocean-pat", "tf.vars", `do = "do` + `p_v1_` + made(r, hexa, 64) + `"`},
		{"telegram-bot-api-token", "bot.env", "TELEGRAM_TOKEN=" + made(r, "123456789", 9) + ":A" + made(r, base62, 34)},
		{"twilio-api-key", "sms.js", `twilio("S` + `K` + made(r, hexa, 32) + `")`},
		{"mailgun-private-api-token", "mail.py", `mailgun_key = "key-` + made(r, hexa, 32) + `"`},
		{"shopify-access-token", "shop.ts", `const t = "shp` + `at_` + made(r, hexa, 32) + `"`},
		{"linear-api-key", "l.ts", `const t = "lin_` + `api_` + made(r, digits+lower, 40) + `"`},
		{"databricks-api-token", "d.py", `t = "da` + `pi` + made(r, hexa, 32) + `"`},
		{"pypi-upload-token", ".pypirc", "password = pypi-" + "AgEIcHlwaS5vcmc" + made(r, base62, 80)},
		{"vault-service-token", "v.sh", "export VAULT_TOKEN=hv" + "s." + made(r, base62, 92)},
		{"sentry-user-token", "s.sh", "SENTRY=snt" + "ryu_" + made(r, hexa, 64)},
		{"generic-api-key", "settings.py", `DB_PASSWORD = "` + made(r, base62, 20) + `"`},
		{"generic-api-key", "src/config.js", `{"apiSecret": "` + made(r, base62, 32) + `"}`},
		{"generic-api-key", "min.js", strings.Repeat("var a=1;", 40_000) + `client_secret="` + made(r, base62, 32) + `";` + strings.Repeat("b();", 40_000)},
		{"pkcs12-file", "certs/prod.p12", "\x00\x01"},
	} {
		t.Run(c.rule+" in "+c.file, func(t *testing.T) {
			found := s.Scan(c.file, []byte("first line\n"+c.text+"\nlast line\n"))
			if len(found) != 1 || found[0].Rule != c.rule {
				t.Fatalf("found %v", found)
			}
			if f := found[0]; c.rule != "pkcs12-file" && f.Line < 2 || f.Column < 1 {
				t.Errorf("it is said to be at %d:%d", f.Line, f.Column)
			}
		})
	}
}

func TestLookAlikesAreLeftAlone(t *testing.T) {
	r := seeded()
	s := scanner(t)
	uuid := func() string {
		h := made(r, hexa, 32)
		return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
	}
	for name, c := range map[string]struct{ file, text string }{
		"integrity of a lock file":     {"package-lock.json", `"integrity": "sha512-` + made(r, base62, 86) + `=="`},
		"pnpm's":                       {"pnpm-lock.yaml", "resolution: {integrity: sha512-" + made(r, base62, 86) + "==}"},
		"yarn's":                       {"yarn.lock", "  integrity sha512-" + made(r, base62, 86) + "=="},
		"go.sum":                       {"go.sum", "example.com/a v1.0.0 h1:" + made(r, base62, 43) + "="},
		"Cargo.lock":                   {"Cargo.lock", `checksum = "` + made(r, hexa, 64) + `"`},
		"poetry.lock":                  {"poetry.lock", `{file = "a.whl", hash = "sha256:` + made(r, hexa, 64) + `"}`},
		"a UUID":                       {"ids.ts", `const id = "` + uuid() + `"`},
		"UUIDs in SQL":                 {"seed.sql", `insert into t values ('` + uuid() + `', '` + uuid() + `');`},
		"a commit":                     {"README.md", "as of commit " + made(r, hexa, 40)},
		"an image's digest":            {"Dockerfile", "FROM node@sha256:" + made(r, hexa, 64)},
		"an action by digest":          {"ci.yml", "uses: actions/checkout@" + made(r, hexa, 40)},
		"minified JavaScript":          {"app.min.js", "!function(e,t){var n=e.key,r=t.token;return n===r?e.auth(t):null}(window,document);"},
		"subresource integrity":        {"index.html", `<script src="a.js" integrity="sha384-` + made(r, base62, 64) + `"></script>`},
		"a picture in a file":          {"a.css", "url(data:image/png;base64," + made(r, base62+"+/", 400) + ")"},
		"a public key":                 {"jwt.pub", pem(r, "PUBLIC KEY", 6)},
		"a certificate":                {"ca.pem", pem(r, "CERTIFICATE", 20)},
		"a public key of ssh":          {"authorized_keys", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA" + made(r, base62, 44) + " deploy"},
		"an example of AWS":            {"README.md", "AWS_ACCESS_KEY_ID=AKIA" + "IOSFODNN7EXAMPLE"},
		"a place for a value":          {".env.example", "STRIPE_KEY=sk_live_your_key_here\nAPI_TOKEN=changeme\nDB_PASSWORD="},
		"a variable in its place":      {"compose.yml", "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}"},
		"a secret of a workflow":       {"ci.yml", "token: ${{ secrets.DEPLOY_TOKEN }}"},
		"read from the environment":    {"db.ts", "const password = process.env.DATABASE_PASSWORD;"},
		"from a struct":                {"main.go", "token := request.Header.Get(\"Authorization\")"},
		"a password that is asked for": {"form.tsx", `<input type="password" name="password" autoComplete="current-password" />`},
		"the name of a key":            {"i18n.json", `{"auth.password.forgotten": "Passwort vergessen?", "token.expired": "Abgelaufen"}`},
		"a key of a map":               {"k.ts", `localStorage.getItem("lotse-session-key-name")`},
		"stars":                        {"a.yml", "password: ****************"},
		"one letter":                   {"a.yml", "api_key: xxxxxxxxxxxxxxxxxxxxxxxx"},
		"a primary key":                {"schema.prisma", "primary_key = transports_2024_by_region_and_day"},
		"a source map":                 {"a.js.map", `{"mappings":"AAAA,` + made(r, base62, 300) + `","names":["token","key"]}`},
		"keys of a keyboard":           {"k.ts", `if (event.key === "ArrowDown1" || keyCode == 40) { focusNext2(); }`},
		"a picture":                    {"a.png", "ghp_" + made(r, base62, 36)},
		"no text at all":               {"core", "\x00\x00ghp_" + made(r, base62, 36)},
	} {
		t.Run(name, func(t *testing.T) {
			if found := s.Scan(c.file, []byte("first line\n"+c.text+"\nlast line\n")); len(found) > 0 {
				t.Errorf("found %v", found)
			}
		})
	}
}

// Where a match is, and that what surrounds it changes nothing: windows must not cut a key off, nor make one.
func TestWhereItIs(t *testing.T) {
	s, r := scanner(t), seeded()
	key := "gh" + "p_" + made(r, base62, 36)
	for _, before := range []string{"", "x = ", strings.Repeat("é ", 3_000), strings.Repeat("line\n", 1_000), strings.Repeat("token ", 2_000)} {
		text := before + key + "\n" + strings.Repeat("tail ", 3_000)
		found := s.Scan("a.txt", []byte(text))
		line, column := At([]byte(text), len(before))
		if len(found) != 1 || found[0] != (Finding{"github-pat", len(before), line, column}) {
			t.Errorf("after %d bytes: found %v, want %d:%d", len(before), found, line, column)
		}
	}
	if got := fmt.Sprintf("%+v", s.Scan("a.txt", []byte(key))); strings.Contains(got, key[4:8]) {
		t.Error("a finding holds something of the key")
	}
}

// Every rule of the file is there with its words, and has a pattern that Go's regexp can read.
func TestEveryRuleCompiles(t *testing.T) {
	s := scanner(t)
	for _, r := range s.rules {
		if r.pattern != nil {
			r.pattern()
		}
		if r.pattern != nil && r.reach < 10 {
			t.Errorf("%s reaches %d bytes", r.id, r.reach)
		}
		for _, a := range r.allowed {
			a.patterns()
		}
	}
	if len(s.Rules()) != 222 {
		t.Errorf("%d rules, want 222", len(s.Rules()))
	}
}

// The figures for a repository of 5,000 files; LOTSE_LEAKS_TREE names a folder of real files.
func TestHowLongItTakes(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" && os.Getenv("LOTSE_LEAKS_TREE") == "" {
		t.Skip("NOT RUN: LOTSE_PROVE is not set; how long 5,000 files take was not measured")
	}
	tree := os.Getenv("LOTSE_LEAKS_TREE")
	if tree == "" {
		tree = "../.."
	}
	s := scanner(t)
	files, size, found := 0, 0, map[string]int{}
	began, spent := time.Now(), time.Duration(0)
	if err := filepath.WalkDir(tree, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || files == 5_000 {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil || Binary(data) {
			return err
		}
		inside, _ := filepath.Rel(tree, name)
		files++
		size += len(data)
		at := time.Now()
		for _, f := range s.Scan(inside, data) {
			found[f.Rule]++
			t.Logf("%s:%d:%d %s", inside, f.Line, f.Column, f.Rule)
		}
		spent += time.Since(at)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files, %.1f MB: %.2f s for the rules, %.2f s with reading; found %v", files, float64(size)/1e6, spent.Seconds(), time.Since(began).Seconds(), found)
}
