package local

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A claim is a file in the registry whose name is the number and whose text says whose it is. The file is made so that only
// one can make it: stages that know nothing of each other never take the same number.

// claimUID returns the stage's user id: the one it had before, or a free one.
func (e *Engine) claimUID() (uint32, error) {
	dir := filepath.Join(e.Registry, "uids")
	taken, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, t := range taken {
		if owner, err := os.ReadFile(filepath.Join(dir, t.Name())); err == nil && string(owner) == e.key() {
			n, err := strconv.ParseUint(t.Name(), 10, 32)
			return uint32(n), err
		}
	}
	begin := hash(e.key())
	for i := range uint32(uidCount) {
		uid := e.UIDBase + (begin+i)%uidCount
		ok, err := claim(filepath.Join(dir, strconv.FormatUint(uint64(uid), 10)), e.key())
		if err != nil {
			return 0, err
		}
		if ok {
			return uid, nil
		}
	}
	return 0, fmt.Errorf("%w: every user id from %d on belongs to a stage", deploy.ErrNoSpace, e.UIDBase)
}

// claimPort takes a port on which nobody listens and which no other rollout of this machine remembers, also one that is not
// running just now. It lies outside the range from which the kernel gives ports to outgoing connections, so that none of
// those sits on it when the instance is started again.
func (e *Engine) claimPort(instance string) (int, error) {
	low := min(firstEphemeral(), 32768)
	const lowest = 10240
	span := uint32(max(low-lowest, 1000))
	begin := hash(e.Registry + e.key() + instance) // another Lotse on this machine may have a stage of this name, and looks elsewhere first
	for i := range span {
		port := lowest + int((begin+i)%span)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		ok, err := claim(e.portPath(port), e.key()+" "+instance)
		l.Close()
		if ok || err != nil {
			return port, err
		}
	}
	return 0, fmt.Errorf("%w: no port is free for an instance", deploy.ErrUnavailable)
}

func (e *Engine) portPath(port int) string {
	return filepath.Join(e.Registry, "ports", strconv.Itoa(port))
}

func (e *Engine) freePort(port int) error {
	err := os.Remove(e.portPath(port))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dropStaleClaims frees ports of this stage that no note knows: a process died between the claim and the note. Ports that
// another engine is just claiming for this stage are in the note first (see ports), so that none of those is dropped.
func (e *Engine) dropStaleClaims() error {
	taken, err := os.ReadDir(filepath.Join(e.Registry, "ports"))
	if err != nil {
		return err
	}
	notes, err := e.notes()
	if err != nil {
		return err
	}
	ours := map[string]bool{}
	for _, n := range notes {
		ours[n.Rollout] = true
	}
	for _, t := range taken {
		path := filepath.Join(e.Registry, "ports", t.Name())
		owner, err := os.ReadFile(path)
		if err != nil {
			continue // freed meanwhile
		}
		instance, mine := strings.CutPrefix(string(owner), e.key()+" ")
		rollout, _, _ := strings.Cut(instance, ".")
		if mine && !ours[rollout] && instance != databaseClaim {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// claim makes the file whole at once, by a link: nobody reads a claim without its owner.
func claim(path, owner string) (bool, error) {
	f, err := os.CreateTemp(filepath.Dir(filepath.Dir(path)), ".claim-")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(owner)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// firstEphemeral is the first port that the kernel gives to outgoing connections.
var firstEphemeral = sync.OnceValue(func() int {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) != 2 {
		return 32768
	}
	first, err := strconv.Atoi(fields[0])
	if err != nil || first < 12000 {
		return 32768
	}
	return first
})

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// ports gives every instance of a note its port. The note is on disk before the first is claimed.
func (e *Engine) ports(n *note) error {
	if n.Ports == nil {
		n.Ports = map[string][]int{}
	}
	for _, i := range e.instances(n) {
		if i.service.Worker() || i.port != 0 {
			continue
		}
		port, err := e.claimPort(i.name)
		if err != nil {
			return err
		}
		n.setPort(i.service.Name, i.number, port)
	}
	return e.writeNote(n)
}

func (n *note) setPort(service string, number, port int) {
	ports := slices.Clone(n.Ports[service])
	for len(ports) <= number {
		ports = append(ports, 0)
	}
	ports[number] = port
	n.Ports[service] = ports
}
