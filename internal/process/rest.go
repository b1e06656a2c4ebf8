package process

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rest makes the keeper small: it has done its work for now. Memory of the heap goes back to the system, and so do the pages
// of the program itself that are only read; those that are needed again come back from the page cache.
func (k *keeper) rest() {
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(16 << 20)
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, r := range cleanRanges(string(maps), program) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, r.start, r.end-r.start, unix.MADV_DONTNEED) // it is but a hint
	}
}

type addresses struct{ start, end uintptr }

// cleanRanges lists, from proc_pid_smaps(5), where the program is mapped, may not be written and never was: relocated pages
// are read-only, too, but would come back from the file as they were before.
func cleanRanges(smaps, program string) []addresses {
	var clean []addresses
	var last addresses
	mapped := false
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			last, mapped = rangeOf(fields[0])
			mapped = mapped && len(fields) == 6 && fields[5] == program && len(fields[1]) == 4 && fields[1][1] == '-'
		case mapped && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0":
			clean = append(clean, last)
		}
	}
	return clean
}

func rangeOf(text string) (addresses, bool) {
	from, to, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	return addresses{uintptr(start), uintptr(end)}, err == nil && err2 == nil
}
