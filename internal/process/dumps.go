package process

import "golang.org/x/sys/unix"

// NoDumps keeps the kernel from writing this process, and all that it starts, into a core file: it would hold every secret that the
// process has in memory or in its environment (core(5), setrlimit(2)). It cannot be taken back.
func NoDumps() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
