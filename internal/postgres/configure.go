package postgres

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// configure writes PostgreSQL's three files where they differ from what they should be.
func (c Cluster) configure(owner User) error {
	ident, err := identFile(owner, c.superuser())
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"postgresql.conf": c.settings(), "pg_hba.conf": hbaFile(c.superuser()), "pg_ident.conf": ident} {
		old, err := os.ReadFile(filepath.Join(c.data(), name))
		if err == nil && bytes.Equal(old, []byte(text)) {
			continue
		}
		if err := writeFile(c.data(), name, []byte(text), 0o600, owner); err != nil {
			return fmt.Errorf("configure the cluster: %w", err)
		}
	}
	return nil
}

// hbaFile: the first line that matches decides. The superuser never comes over the network, and nobody without a password.
// A connection over TCP without TLS meets no line, and so is refused.
func hbaFile(superuser string) string {
	return `# Written by Lotse at every start.
local    all          ` + superuser + `                peer map=lotse
local    replication  ` + superuser + `                peer map=lotse
local    all          all                     scram-sha-256
host     all          ` + superuser + `  all           reject
hostssl  all          all       127.0.0.1/32  scram-sha-256
`
}

// identFile lets root and the owner be the superuser.
func identFile(owner User, superuser string) (string, error) {
	var text strings.Builder
	text.WriteString("# Written by Lotse at every start.\n")
	for _, uid := range []uint32{0, owner.UID} {
		u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
		if err != nil {
			return "", &hinted{fmt.Errorf("%w: uid %d has no name, which PostgreSQL needs", ErrNoUser, uid), "add the user to the machine's user database"}
		}
		fmt.Fprintf(&text, "lotse  %q  %s\n", u.Username, superuser)
	}
	return text.String(), nil
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

// settings is postgresql.conf. Memory is modest, since app, builds and other clusters live on the same machine: an eighth of
// it for shared buffers.
func (c Cluster) settings() string {
	memory := c.Memory
	if memory == 0 {
		memory = MachineMemory()
	}
	listen, ssl := "", "off"
	if c.Port != 0 {
		listen, ssl = "127.0.0.1", "on" // one address alone: with several, a taken one is a warning only
	}
	durable := "on"
	if c.Scratch {
		durable = "off"
	}
	mb := func(bytes int64) string { return strconv.FormatInt(bytes/mib, 10) + "MB" }
	var text strings.Builder
	text.WriteString("# Written by Lotse at every start. ALTER SYSTEM overrides it.\n")
	for _, s := range [][2]string{
		{"listen_addresses", listen},
		{"port", strconv.Itoa(c.port())},
		{"unix_socket_directories", `"` + c.socketDir() + `"`},
		{"unix_socket_permissions", "0777"}, // pg_hba.conf decides
		{"max_connections", "100"},
		{"ssl", ssl}, // over TCP; a socket does not leave the kernel
		{"ssl_cert_file", serverCert},
		{"ssl_key_file", serverCert},
		{"password_encryption", "scram-sha-256"},

		{"shared_buffers", mb(min(max(memory/8, 32*mib), gib))},
		{"effective_cache_size", mb(max(memory/2, 128*mib))}, // a figure for the planner, not taken
		{"work_mem", mb(min(max(memory/512, 4*mib), 16*mib))},
		{"maintenance_work_mem", mb(min(max(memory/32, 32*mib), 256*mib))},
		{"random_page_cost", "1.1"}, // disks without heads
		{"max_wal_size", "1GB"},

		{"fsync", durable},
		{"full_page_writes", durable},
		{"synchronous_commit", durable},
		{"restart_after_crash", "off"}, // whoever keeps the process starts it again, with pauses: on a full disk it would crash four times a second

		{"log_destination", "stderr"}, // whoever keeps the process keeps its output
		{"logging_collector", "off"},
		{"log_line_prefix", "%m [%p] "}, // without the client's address
		{"log_timezone", "UTC"},
		{"log_min_messages", "log"},          // the text of an ERROR repeats values; see the package's comment
		{"log_min_error_statement", "panic"}, // no statement beside an error
		{"log_error_verbosity", "terse"},     // no DETAIL: it shows the row
		{"log_statement", "none"},            //
		{"log_min_duration_statement", "-1"}, //
		{"log_parameter_max_length", "0"},    //
		{"log_parameter_max_length_on_error", "0"},
		{"log_connections", "off"},

		{"lc_messages", "C"}, // errors are recognised by their text in one language
		{"timezone", "UTC"},
		{"cluster_name", "lotse"},
	} {
		fmt.Fprintf(&text, "%s = '%s'\n", s[0], s[1])
	}
	return text.String()
}

// MachineMemory is what this machine has, or what the container leaves it, in bytes; 4 GiB where it cannot be read.
func MachineMemory() int64 {
	memory := int64(4 * gib)
	text, _ := os.ReadFile("/proc/meminfo") // Linux alone has it
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			memory = kib * 1024
		}
	}
	text, _ = os.ReadFile("/sys/fs/cgroup/memory.max") // "max", or not there: no limit
	if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 {
		memory = min(memory, limit)
	}
	return memory
}
