package vault_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/vault"
)

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// revealed shows settings as NAME=value, in their order.
func revealed(settings []deploy.Setting) (lines []string) {
	for _, s := range settings {
		lines = append(lines, s.Name+"="+s.Value.Reveal())
	}
	return lines
}

func TestEnvFile(t *testing.T) {
	t.Setenv("ALIEN", "from the environment")
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", nil},
		{"comments", "# a\n\n  # b\n", nil},
		{"the order of the file", "B=1\nA=2\n", []string{"B=1", "A=2"}},
		{"no end of line", "A=1", []string{"A=1"}},
		{"CRLF and BOM", "\ufeffA=1\r\nB=\"2\"\r\n", []string{"A=1", "B=2"}},
		{"empty values", "A=\nB=\"\"\nC=1", []string{"A=", "B=", "C=1"}},
		{"export", "export A=1", []string{"A=1"}},
		{"as YAML", "A: 1", []string{"A=1"}},
		{"a comment behind", "A=1 # one\nB=\"2\" # two\nC=a#b", []string{"A=1", "B=2", "C=a#b"}},
		{"equals signs", "URL=postgres://u:p@h/d?a=b==", []string{"URL=postgres://u:p@h/d?a=b=="}},
		{"letter by letter", "V=1.10\nC=012\nY=yes", []string{"V=1.10", "C=012", "Y=yes"}},
		{"escapes", `A="a\nb\t\"c\" \$d"` + "\n" + `B='a\nb $c'`, []string{"A=a\nb\t\"c\" $d", `B=a\nb $c`}},
		{"several lines", "KEY=\"-----BEGIN\nab=cd\n# no comment\n\n-----END\"\nB='x\ny'\nC=1", []string{"KEY=-----BEGIN\nab=cd\n# no comment\n\n-----END", "B=x\ny", "C=1"}},
		{"the other quote inside", "A='it is \"so\"\n\"'\nB=1", []string{"A=it is \"so\"\n\"", "B=1"}},
		{"a variable above", "A=x\nB=${A}y$A\nC='$A'", []string{"A=x", "B=xyx", "C=$A"}},
		{"a dollar sign", "A=a$$b\nB='a$b'", []string{"A=a$b", "B=a$b"}},
	} {
		got, err := vault.EnvFile(write(t, c.text))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, revealed(got)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// Every mistake is told, with its line, and nothing of any value. What stands in the place of values here is "hunter…".
func TestEnvFileMistakes(t *testing.T) {
	t.Setenv("ALIEN", "hunter-of-the-environment")
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"a name alone", "A=1\nALIEN\n", []string{".env:2: a name without value; write NAME= for an empty one"}},
		{"a piece of a value alone", "A=1\nhunter2+/\n", []string{".env:2: a name has letters, digits and _ only, and = comes right after it"}},
		{"a piece of base64", "hunterAbC==\nhunter-x==\n", []string{".env:2: a name of letters, digits and _ that does not begin with a digit"}},
		{"a blank in the name", "A B=hunter", []string{".env:1: a name has letters, digits and _ only, and = comes right after it"}},
		{"a digit first", "1A=hunter", []string{".env:1: a name of letters, digits and _ that does not begin with a digit"}},
		{"a dot", "a.b=hunter", []string{".env:1: a name of letters, digits and _ that does not begin with a digit"}},
		{"reserved", "PORT=1\nHOST=hunter\nLOTSE_X=1\nPORTS=1", []string{".env:1: PORT is set by Lotse itself", ".env:2: HOST is set by Lotse itself", ".env:3: LOTSE_X is set by Lotse itself"}},
		{"twice", "A=hunter\n\nA=hunter2", []string{".env:3: A is there twice; the first is in line 1"}},
		{"the environment of others", "A=${ALIEN}hunter", []string{".env:1: A refers to a variable that is not above it in this file; write $$ for a dollar sign, or put the value in single quotes"}},
		{"a password with a dollar", "A=pa$hunter\nB=1", []string{".env:1: A refers to a variable that is not above it in this file; write $$ for a dollar sign, or put the value in single quotes"}},
		{"a variable below", "A=$B\nB=hunter", []string{".env:1: A refers to a variable that is not above it in this file; write $$ for a dollar sign, or put the value in single quotes"}},
		{"a broken variable", "A=${hunter\nB=${hunter?hunter}", []string{
			".env:1: a $ in it cannot be read; write $$ for a dollar sign, or put the value in single quotes",
			".env:2: B refers to a variable that is not above it in this file; write $$ for a dollar sign, or put the value in single quotes"}},
		{"an open quote", "A=1\nB=\"hunter\nC=2\n", []string{".env:2: the quote does not end"}},
		{"text behind a quote", "A=\"1\" B=hunter\nC=\"1\"hunter", []string{".env:1: text after the closing quote", ".env:2: text after the closing quote"}},
		{"not UTF-8", "A=hunter\xff", []string{".env:1: A must be text in UTF-8 without NUL"}},
		{"NUL", "A=hunter\x00", []string{".env:1: A must be text in UTF-8 without NUL"}},
		{"after several lines", "A=\"1\n2\n3\"\nPORT=1", []string{".env:4: PORT is set by Lotse itself"}},
	} {
		settings, err := vault.EnvFile(write(t, c.text))
		if !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" || settings != nil {
			t.Errorf("%s: %v, %v, want ErrBadInput with a hint", c.name, settings, err)
			continue
		}
		var got []string
		for line := range strings.SplitSeq(err.Error(), "\n") {
			got = append(got, strings.TrimSuffix(line, ": "+deploy.ErrBadInput.Error()))
		}
		if c.name == "a broken variable" {
			got = got[:min(len(got), 2)]
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if strings.Contains(err.Error()+deploy.HintOf(err), "hunter") {
			t.Errorf("%s: a value is told: %v", c.name, err)
		}
	}
}

// The library writes warnings with pieces of values to standard error; nothing of that may be seen.
func TestEnvFileIsSilent(t *testing.T) {
	old := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w
	_, err = vault.EnvFile(write(t, "A=pa$word\nB=${x:-y}\nC=${z?hunter}\nWITHOUT\n"))
	os.Stderr = old
	w.Close()
	if err == nil {
		t.Error("no mistake was found")
	}
	if said, err := io.ReadAll(r); err != nil || len(said) > 0 {
		t.Errorf("standard error has %q; %v", said, err)
	}
}

func TestEnvFileIsForItsOwner(t *testing.T) {
	for mode, fine := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o660: true, 0o644: false, 0o604: false, 0o602: false, 0o666: false, 0o601: false} {
		path := write(t, "A=hunter")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := vault.EnvFile(path)
		if fine && err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if !fine && (!errors.Is(err, deploy.ErrBadInput) || !strings.Contains(deploy.HintOf(err), "chmod 600 .env") || !strings.Contains(err.Error(), fmt.Sprintf("%04o", mode))) {
			t.Errorf("mode %04o: %v (hint %q), want ErrBadInput with chmod 600", mode, err, deploy.HintOf(err))
		}
	}
}

func TestEnvFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{filepath.Join(dir, "missing"): deploy.ErrNotFound, dir: deploy.ErrBadInput, pipe: deploy.ErrBadInput, huge: deploy.ErrBadInput} {
		_, err := vault.EnvFile(path)
		if !errors.Is(err, want) || strings.Contains(err.Error(), dir) && path != dir {
			t.Errorf("%s: %v, want %v without the folder", filepath.Base(path), err, want)
		}
		if errors.Is(want, deploy.ErrNotFound) && !strings.Contains(deploy.HintOf(err), "env_file") {
			t.Errorf("hint %q", deploy.HintOf(err))
		}
	}
}

// A quote that never ends does not make reading slow: the text is read again for a thousand lines with quotes, not for more.
func TestEnvFileGivesUp(t *testing.T) {
	for name, text := range map[string]string{
		"no end":                  "A=\"" + strings.Repeat("x\n", 400_000),
		"quotes without an end":   "A=\"" + strings.Repeat("\\\"\n", 20_000),
		"too many before the end": "A=\"" + strings.Repeat("\\\"\n", 1_500) + "\"",
	} {
		if _, err := vault.EnvFile(write(t, text)); err == nil || !strings.HasPrefix(err.Error(), ".env:1: the quote does not end") {
			t.Errorf("%s: %.100v", name, err)
		}
	}
	_, err := vault.EnvFile(write(t, strings.Repeat("x\n", 400_000)))
	if err == nil || strings.Count(err.Error(), "\n") != 49 {
		t.Errorf("a file of rubbish is told in %d lines, want 50", strings.Count(fmt.Sprint(err), "\n")+1)
	}
	settings, err := vault.EnvFile(write(t, "A=\""+strings.Repeat("\\\"\n", 500)+"\""))
	if err != nil || len(settings) != 1 {
		t.Errorf("a value with 500 quotes: %v", err)
	}
}

func FuzzEnvFile(f *testing.F) {
	for _, s := range []string{"A=1", "A=\"x\ny\"", "A='", "export A: ${B}", "A=\"1\"B", "\xff=\x00", "=", "A=\\", "KEY\n=x", "a[b]=c", "A=$$$", "\u0085A=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "e")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		settings, err := vault.EnvFile(path)
		if err == nil {
			for _, s := range settings {
				if rest, _ := deploy.VariableProblem(s.Name); rest != "" {
					t.Errorf("the name %q went through", s.Name)
				}
			}
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			var n int
			if _, scan := fmt.Sscanf(line, "e:%d: ", &n); scan != nil || n < 1 || n > strings.Count(text, "\n")+1 {
				t.Errorf("an error without a line of the file: %q", line)
			}
		}
	})
}
