package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/lotse-eu/lotse/internal/leakstest"
)

// leaky tells everything that it knows, in every form: its environment, and what stands in the file that SENTINELS names, which is what no
// instance is given. It returns what it knows.
func leaky() []string {
	var known []string
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "SECRET") || name == "DATABASE_URL" {
			known = append(known, value)
		}
	}
	if others, err := os.ReadFile(os.Getenv("SENTINELS")); err == nil {
		known = append(known, strings.Split(strings.Trim(string(others), "\x00"), "\x00")...)
	}
	leakstest.Tell(os.Stdout, known)
	leakstest.Tell(os.Stderr, known)
	return known
}

// debugging answers /debug with all that it knows: what an app answers its clients is its own affair.
func debugging(known []string, app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debug" {
			app.ServeHTTP(w, r)
			return
		}
		for _, value := range known {
			fmt.Fprintln(w, value)
		}
	})
}
