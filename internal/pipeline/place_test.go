package pipeline

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const hostile = "it's \"x\" `y` ${z} $& \\ \\n \n\r\u2028\u2029\x01 </script><!-- &amp; ünd 🚢"

// At stands for the placeholder in what follows.
func withPlaceholder(text string) []byte {
	return []byte(strings.ReplaceAll(text, "AT", placeholder("X", asAddress)))
}

func TestWhereValuesMayStand(t *testing.T) {
	for _, test := range []struct{ name, text, value, want, refused string }{
		{"a.js", `f('AT')`, `it's`, `f('it\'s')`, ""},
		{"a.js", "f(`AT/${g(\"AT\")}`)", "`${x}`\n", "f(`\\`\\${x}\\`\\n/${g(\"\\`\\${x}\\`\\n\")}`)", ""},
		{"a.js", `f("AT")`, `</script>`, `f("\x3c/script>")`, ""},
		{"a.js", "x={'AT':1};import('AT')", `a"b`, `x={'a\"b':1};import('a\"b')`, ""},
		{"a.js", "f`AT`", "a.b", "f`a.b`", ""},
		{"a.js", "f`AT`", "`", "", "in a template that a function reads"},
		{"a.js", "// AT\nf('AT')", "x", "", "outside of a text"},
		{"a.js", `g('<a href="AT">')`, "https://x", `g('<a href="https://x">')`, ""},
		{"a.js", `g('<a href="AT">')`, `"`, "", "in a text that may be code"},
		{"a.js", `JSON.parse('{"a":"AT"}')`, `a"b`, "", "in a text that may be code"},
		{"a.js", `it is no script 'AT'`, "x", `it is no script 'x'`, ""},
		{"a.js", `it is no script 'AT'`, "'", "", "where a value with such characters may mean something else"},
		{"a.json", `{"k\"":"AT/x"}`, "a\"\\\n<", `{"k\"":"a\"\\\n\u003c/x"}`, ""},
		{"a.json", `{"k":"{\"j\":\"AT\"}"}`, `"`, "", "in a text that may be code"},
		{"a.html", `<title>AT</title><p class="AT">AT`, `<b> & "c"`, `<title>&lt;b&gt; &amp; &#34;c&#34;</title><p class="&lt;b&gt; &amp; &#34;c&#34;">&lt;b&gt; &amp; &#34;c&#34;`, ""},
		{"a.html", `<p class=AT>`, "x", `<p class=x>`, ""},
		{"a.html", `<p class=AT>`, "x y", "", "in an attribute without quotes"},
		{"a.html", `<p onclick="f('AT')">`, "x y", "", "where a value with such characters may mean something else"},
		{"a.html", `<a href="javascript:f('AT')">`, "'", "", "where a value with such characters may mean something else"},
		{"a.html", `<!-- AT -->`, "-->", "", "where a value with such characters may mean something else"},
		{"a.html", `<style>a{b:AT}</style>`, "}", "", "where a value with such characters may mean something else"},
		{"a.html", `<script>f("AT")</script><p>`, `"</script>`, `<script>f("\"\x3c/script>")</script><p>`, ""},
		{"a.html", `<script type="application/json">{"a":"AT"}</script>`, `"</script>`, `<script type="application/json">{"a":"\"\u003c/script\u003e"}</script>`, ""},
		{"a.html", `<script type="text/x-template"><p>AT</script>`, "<", "", "where a value with such characters may mean something else"},
		{"a.css", `a{background:url(AT)}`, "https://x/y.png", `a{background:url(https://x/y.png)}`, ""},
		{"a.css", `a{background:url(AT)}`, "x)", "", "where a value with such characters may mean something else"},
		{"a.bin", "\x00AT", "x", "", "which is no text"},
	} {
		f := newFiller(map[string]string{"X": test.value})
		data := withPlaceholder(test.text)
		edits, err := f.edits(test.name, data)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got := string(apply(data, edits)); said != test.refused || err == nil && got != test.want {
			t.Errorf("%s: %s with %q: %s, %q; want %s, %q", test.name, test.text, test.value, got, said, test.want, test.refused)
		}
	}
}

// What a script reads is the value, byte for byte, whatever quotes it stands between.
func TestValuesArriveInScripts(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("NOT RUN: node is not installed; that a script reads what was filled in is not proven")
	}
	f := newFiller(map[string]string{"X": hostile})
	data := withPlaceholder("console.log(JSON.stringify(['AT',\"AT\",`AT`,{'AT':1}]))")
	edits, err := f.edits("a.js", data)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("node", "-e", string(apply(data, edits))).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{hostile, hostile, hostile, map[string]any{hostile: 1.0}}, got); diff != "" {
		t.Error(diff)
	}
}

// Names that a minifier chose otherwise are no difference, and everything else is one.
func TestScriptsAreComparedWithoutTheirNames(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"const a=1;export{a as x};import{q as b}from'm';b(a)", "const t=1;export{t as x};import{q as n}from'm';n(t)", true},
		{"let a=1,b=2;f(a)", "let a=1,b=2;f(b)", false},
		{"let a=1,b=2;f(a)", "let b=1,a=2;f(b)", true},
		{"(a,b)=>a?a:b", "(a,b)=>a?b:a", false},
		{"f(a)", "f(b)", false},
		{"function f(a){return({b:c,...d})=>a.e+c}", "function g(x){return({b:y,...z})=>x.e+y}", true},
		{"let a=1;({a})", "let b=1;({a:b})", true},
		{"let a=1;({a})", "let b=1;({b})", false},
		{"import{a}from'm';a()", "import{b}from'm';b()", false},
		{"export{a}from'm'", "export{b}from'm'", false},
		{"for(let a of b){let a=1;a}", "for(let c of b){let d=1;d}", true},
		{"for(let a of b){let a=1;a}", "for(let c of b){let d=1;c}", false},
		{"class a{#b=1;c(){return this.#b}}", "class z{#b=1;c(){return this.#b}}", true},
		{"f('a')", "f('b')", false},
		{"import a from'm';function f(){return()=>a}", "import b from'm';function g(){return()=>b}", true},
		{"import a from'm';function f(){return()=>a}", "import b from'm';function g(){return()=>a}", false},
		{"import a from'm';function f(){return()=>b}", "import b from'm';function g(){return()=>b}", false},
		{"import*as a from'm';export{a}", "import*as b from'm';export{b as a}", true},
	} {
		if got := inOrder("x.js", []byte(test.a)) == inOrder("x.js", []byte(test.b)); got != test.same {
			t.Errorf("%s and %s: %v\n%s\n%s", test.a, test.b, got, inOrder("x.js", []byte(test.a)), inOrder("x.js", []byte(test.b)))
		}
	}
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"let o='',s=e=>o+'/v1'+e;f(s,`${o}/b`)", "let s=e=>`/v1`+e;f(s,`/b`)", true},
		{"let o='',s=e=>o+'/v1'+e;f(s,o)", "let o=``,s=e=>`/v1`+e;f(s,``)", true},
		{"let o='';f(o||'x')", "f('x')", false},
		{"let o='';o='y';f(o)", "let o='';o='y';f('')", false},
		{"let o='';[o]=g();f(o)", "let o='';[o]=g();f('')", false},
		{"let o='';for(o of g());f(o)", "let o='';for(o of g());f('')", false},
		{"let o='';o+='y';f(o)", "let o='';o+='y';f('')", false},
		{"var o='';var o=g();f(o)", "var o='';var o=g();f('')", false},
		{"let o='x';f(o)", "f('x')", false},
		{"if('')f()", "", false},
	} {
		if got := withoutEmpties([]byte(test.a)) == withoutEmpties([]byte(test.b)); got != test.same {
			t.Errorf("%s and %s: %v\n%s\n%s", test.a, test.b, got, withoutEmpties([]byte(test.a)), withoutEmpties([]byte(test.b)))
		}
	}
}

// A column behind a value moves by what the value is longer or shorter, in the units of the standard; one before it stays.
func TestSourceMapsFollow(t *testing.T) {
	old := []byte("a('🚢AT');b()\nc('AT')")
	edits := []edit{{8, "AT", "long 🚢"}, {20, "AT", ""}}
	if string(old[8:10]) != "AT" {
		edits[0].at = strings.Index(string(old), "AT")
		edits[1].at = strings.LastIndex(string(old), "AT")
	}
	line := func(columns ...int) string {
		var all []string
		was := 0
		for _, c := range columns {
			all = append(all, toVLQ(c-was)+"AAA")
			was = c
		}
		return strings.Join(all, ",")
	}
	before := `{"version":3,"mappings":"` + line(0, 2, 9, 11) + ";" + line(0, 2, 6) + `"}`
	want := `{"version":3,"mappings":"` + line(0, 2, 14, 16) + ";" + line(0, 2, 4) + `"}`
	got, err := shifted([]byte(before), shifts(old, edits))
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for _, n := range []int{0, 1, -1, 15, 16, -16, 1000, -123456} {
		if back, used := fromVLQ(toVLQ(n) + "A"); back != n || used != len(toVLQ(n)) {
			t.Errorf("%d is read as %d", n, back)
		}
	}
}

func TestHashesInNames(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"d/assets/index-BHx3k9aQ.js", "d/assets/index-CHx3k9aQ.js", "BHx3k9aQ"},
		{"d/assets/lazy-BXk-UdzZ.js.map", "d/assets/lazy-BZj-w_wM.js.map", "BXk-UdzZ"},
		{"n/static/chunks/12.0a1b2c3d4e5f6071.js", "n/static/chunks/12.1a1b2c3d4e5f6071.js", "0a1b2c3d4e5f6071"},
		{"n/static/aBcDeFgHiJ/_m.js", "n/static/zBcDeFgHiJ/_m.js", "aBcDeFgHiJ"},
		{"d/a.js", "d/b.js", ""},
		{"d/one/two.js", "d/two/one.js", ""},
		{"d/app-v1.js", "d/app-v2.js", ""},
	} {
		if x, _ := hashesOf(test.a, test.b); x != test.want {
			t.Errorf("%s: %q, want %q", test.a, x, test.want)
		}
	}
}

// A value is never found by one placeholder in another's, and no placeholder holds what programs could not tell apart.
func TestPlaceholders(t *testing.T) {
	names := []string{"VITE_A", "VITE_AB", "VITE_A_B", "A"}
	for _, as := range []guise{asAddress, asNumber} {
		for _, a := range names {
			for _, b := range names {
				if a != b && strings.Contains(placeholder(a, as), placeholder(b, as)) {
					t.Errorf("%s holds %s", a, b)
				}
			}
		}
	}
	a, b := placeholder("X", asAddress), placeholder("X", asNumber)
	if len(a) == len(b) || a[0] == b[0] || a[len(a)-1] == b[len(b)-1] || strings.ToUpper(a) == a || strings.ToLower(a) == a {
		t.Errorf("%s and %s are alike", a, b)
	}
}
