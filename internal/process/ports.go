package process

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// PortsOf returns the TCP ports, rising, on which the process, its descendants and the rest of its session listen. It reads the
// network namespace of pid and needs the rights of its user or root.
func PortsOf(pid int) ([]int, error) {
	root, err := identify(pid)
	if err != nil {
		return nil, fmt.Errorf("ports of process %d: %w", pid, err)
	}
	listening := map[string]int{}
	for _, table := range []string{"tcp", "tcp6"} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil && !os.IsNotExist(err) { // a machine may have no IPv6
			return nil, fmt.Errorf("ports of process %d: %w", pid, err)
		}
		listeningSockets(string(raw), listening)
	}
	var ports []int
	for _, id := range (tree{root: root}).members() {
		for _, inode := range socketsOf(id.PID) {
			if port, ok := listening[inode]; ok {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// listeningSockets reads a table as of proc_net(5): the inode of every listening socket, and its port.
func listeningSockets(table string, into map[string]int) {
	const listenState = "0A" // TCP_LISTEN
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != listenState {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			into[fields[9]] = int(port)
		}
	}
}

func socketsOf(pid int) []string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // gone, or somebody else's
	var inodes []string
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}
