// Command bench measures Lotse beside its peers, in one run on one machine, and prints figures as ratios: what a machine
// does in absolute terms says little about another. It asserts nothing but that no request fails.
//
//	go run ./bench              everything
//	go run ./bench -run proxy   one bench
//
// Every figure is real, measured in this run, or NOT RUN, with the reason. The same is written to bench/results.json.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// bench is one named measurement. It adds its figures to the report and prints its table to out.
type bench struct {
	name  string
	about string
	run   func(ctx context.Context, out io.Writer, report *report) error
}

// benches is the table to which others are added.
func benches() []bench {
	return []bench{
		{"proxy", "CPU time per request, throughput and latency beside nginx, HAProxy and a bare httputil.ReverseProxy", benchProxy},
		{"deploy", "Lotse's own time in a deploy", benchDeploy},
		{"unchanged", "the pipeline when nothing has changed", benchUnchanged},
		{"pipeline", "the pipeline beside the same commands by hand", benchPipeline},
		{"back", "the shift, going back to a warm and to a cold release, going on after the controller was killed", benchBack},
		{"shifts", "20 shifts under load of every kind", benchShifts},
		{"static", "a static site to S3 beside aws s3 sync, on a server in memory", benchStatic},
		{"snapshot", "a snapshot and its way back beside pg_dump | zstd | age and pg_restore", benchSnapshot},
		{"memory", "what the processes take at rest", benchMemory},
	}
}

func main() {
	// Children are told to end when the thread that started them does; so it stays for as long as main does.
	runtime.LockOSThread()
	if len(os.Args) == 3 && os.Args[1] == childArgument {
		os.Exit(exitCode(child(os.Args[2], os.Stdin, os.Stdout)))
	}
	only := flag.String("run", "", "regular expression of the benches to run")
	path := flag.String("json", filepath.Join("bench", "results.json"), "where to write the results")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *only, *path)
	stop()
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

func run(ctx context.Context, out io.Writer, only, path string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	report := newReport(ctx, time.Now())
	fmt.Fprintln(out, report.Machine)
	var failed error
	for _, b := range benches() {
		if !wanted.MatchString(b.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(out, "\n%s: %s\n", b.name, b.about)
		if err := b.run(ctx, out, report); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", b.name, err))
			continue
		}
		fmt.Fprintf(out, "%s took %s\n", b.name, time.Since(began).Round(100*time.Millisecond))
	}
	return errors.Join(failed, report.write(path))
}
