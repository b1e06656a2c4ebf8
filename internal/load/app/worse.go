package main

import (
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// worse is the app with one endpoint, /about, that is worse than it should be: in the mode errors=4 it fails 4 of 100 requests, in the mode
// slower=200ms one in eight takes so much longer, which is more than the 95th percentile sees.
func worse(mode string, app http.Handler) http.Handler {
	what, much, _ := strings.Cut(mode, "=")
	of100, _ := strconv.Atoi(much) // a mode without a number fails nothing
	by, _ := time.ParseDuration(much)
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Base(r.URL.Path) == "about" {
			switch n := asked.Add(1); {
			case what == "errors" && n*37%100 < int64(of100):
				http.Error(w, "it has failed", http.StatusInternalServerError)
				return
			case what == "slower" && n%8 == 0:
				select {
				case <-time.After(by):
				case <-r.Context().Done():
				}
			}
		}
		app.ServeHTTP(w, r)
	})
}
