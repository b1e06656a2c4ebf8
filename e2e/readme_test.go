package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// block is one fenced block of a document: what stands behind its fence, and its text.
type block struct{ info, text string }

func blocks(t *testing.T, page string) []block {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, found := range regexp.MustCompile("(?ms)^```([^\n]+)\n(.*?)^```$").FindAllStringSubmatch(string(raw), -1) {
		all = append(all, block{found[1], found[2]})
	}
	return all
}

// What the README tells people to write and to type works, letter by letter and in its order, in a new repository.
func TestReadme(t *testing.T) {
	m := newMachine(t)
	m.stopController() // the README starts one itself; the ports that were chosen are kept
	const page = "<!doctype html><title>Hello</title>\n"
	files := map[string]string{"index.html": page}
	var lines []string
	for _, b := range blocks(t, "../README.md") {
		if name, ok := strings.CutPrefix(b.info, "yaml file="); ok {
			files[name] = b.text
		}
		if b.info == "sh run" {
			lines = append(lines, strings.Split(strings.TrimSpace(b.text), "\n")...)
		}
	}
	if len(files) != 2 || len(lines) < 6 {
		t.Fatalf("the README has the files %v and the commands %q", files, lines)
	}
	dir := m.repository(files)
	m.git(dir, "config", "user.name", "E")
	m.git(dir, "config", "user.email", "e@example.invalid")
	opened := false
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		said := m.types(dir, strings.TrimSpace(line))
		t.Logf("%s\n%s", line, said)
		if line == "lotse promote prod" && !opened {
			m.opens(said, page)
			opened = true
		}
	}
}

// types runs a line of the README as a shell would, and returns what it said. One that ends with & is the controller.
func (m *machine) types(dir, line string) string {
	m.t.Helper()
	serve, background := strings.CutSuffix(line, " &")
	if background {
		line = "exec " + serve
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LOTSE_STATE="+m.state, "PATH="+filepath.Dir(m.bin.lotse)+":"+os.Getenv("PATH"))
	if !background {
		said, err := cmd.CombinedOutput()
		if err != nil {
			m.t.Fatalf("%s: %v\n%s", line, err, said)
		}
		return string(said)
	}
	log, err := os.OpenFile(filepath.Join(m.work, "serve.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.controller, m.ended = cmd, ended
	m.await("the controller says that it listens", time.Minute, func() bool { return strings.Contains(m.said(), "listening on ") })
	return m.said()
}

// opens asks the address that a deploy has printed, and finds the page there, by a certificate of the local authority.
func (m *machine) opens(said, page string) {
	m.t.Helper()
	address := regexp.MustCompile(`https://\S+`).FindString(said)
	answer, err := m.client().Get(address)
	if err != nil {
		m.t.Fatalf("%s: %v", address, err)
	}
	defer answer.Body.Close()
	if got := bodyOf(m.t, answer); got != page || answer.TLS == nil {
		m.t.Errorf("%s answers %s: %q", address, answer.Status, got)
	}
}

// Every command that the documents name is there, with every flag that they show with it.
func TestDocumentsNameCommandsThatAreThere(t *testing.T) {
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	help := map[string]string{}
	for _, page := range append(pages, "../README.md", "../README.de.md", "../SECURITY.md", "../CONTRIBUTING.md") {
		for _, line := range named(t, page) {
			words, flags := split(line)
			path := strings.Join(words, " ")
			if path == "lotse proxy" || path == "lotse keep" { // Lotse starts these itself; nobody types them
				continue
			}
			if _, asked := help[path]; !asked {
				out, _ := exec.Command(bin.lotse, append(slices.Clone(words[1:]), "--help")...).CombinedOutput() // it says what is wrong
				help[path] = string(out)
			}
			if !usable(path, help[path]) {
				t.Errorf("%s names `%s`, and there is no command %q:\n%s", page, line, path, help[path])
			}
			for _, flag := range flags {
				if !strings.Contains(help[path], flag+" ") {
					t.Errorf("%s names `%s`, and %q has no flag %s", page, line, path, flag)
				}
			}
		}
	}
	if len(help) < 12 {
		t.Errorf("only %d commands are named: the documents are not read as they should be", len(help))
	}
}

var usage = regexp.MustCompile(`(?m)^  (lotse(?: [a-z]+)*)(?: (\S+))?`)

// usable reports whether a help is that of the command, whose last words may be arguments where it takes any.
func usable(path, help string) bool {
	said := usage.FindStringSubmatch(help)
	if said == nil || !strings.HasPrefix(path+" ", said[1]+" ") {
		return false
	}
	return path == said[1] || strings.ToUpper(said[2]) == said[2] && strings.Trim(said[2], "[]") != "" && said[2] != "[COMMAND]"
}

// named are the commands of a page: in its blocks, and in its text between backticks.
func named(t *testing.T, page string) []string {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, found := range regexp.MustCompile("(?m)(?:^ *|`|[(])(lotse [^`\n)#&>]+)").FindAllStringSubmatch(string(raw), -1) {
		all = append(all, strings.TrimSpace(found[1]))
	}
	return all
}

// split parts a command line into the names of the command and its flags. Whatever is no name ends the names.
func split(line string) (names, flags []string) {
	name, inNames := regexp.MustCompile(`^[a-z]+$`), true
	for word := range strings.FieldsSeq(line) {
		inNames = inNames && name.MatchString(word)
		if inNames {
			names = append(names, word)
		}
		if strings.HasPrefix(word, "--") {
			flags = append(flags, word)
		}
	}
	return names, flags
}
