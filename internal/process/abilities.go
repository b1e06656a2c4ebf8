package process

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Abilities says what this machine, and this user on it, can do, and what happens where it cannot. It tries each thing out
// and leaves nothing behind.
func Abilities() []Ability {
	home := cgroupHome()
	abilities := []Ability{cgroupAbility(home)}
	for _, c := range []string{"memory", "cpu", "pids"} {
		abilities = append(abilities, limitAbility(home, c))
	}
	return append(abilities, userAbility(), pidfdAbility())
}

func cgroupAbility(home string) Ability {
	a := Ability{Name: "cgroup"}
	if home == "" {
		a.Detail = "no cgroup v2 that this user may write to: a process is found by its marker, its session and its parents"
		return a
	}
	dir, _, err := makeCgroup(home, cgroupName("ability", fmt.Sprint(os.Getpid())), Limits{})
	if err != nil || dir == "" {
		a.Detail = "no cgroup can be made in " + home + ": a process is found by its marker, its session and its parents"
		return a
	}
	defer func() { _ = cgroupRemove(dir) }() // an empty directory that stays does no harm
	if err := cgroupKill(dir); err != nil {
		return Ability{a.Name, true, home + ", without cgroup.kill: members are killed one by one"}
	}
	return Ability{a.Name, true, home + ", a tree is killed whole"}
}

func limitAbility(home, controller string) Ability {
	a := Ability{Name: "limit " + controller}
	switch {
	case home == "":
		a.Detail = "not enforced: there is no cgroup"
	case !slices.Contains(controllers(home), controller):
		a.Detail = "not enforced: cgroup v2 does not have this controller here"
	default:
		a.OK, a.Detail = true, home
	}
	if a.OK && !slices.Contains(subtree(home), controller) {
		a.OK, a.Detail = false, "not enforced: this controller cannot be delegated"
	}
	return a
}

func userAbility() Ability {
	if os.Geteuid() == 0 {
		return Ability{"other users", true, "root: each service can run as a user of its own"}
	}
	return Ability{"other users", false, "not root: every service runs as this user"}
}

func pidfdAbility() Ability {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return Ability{"pidfd", false, "needed; Linux 5.3 or newer: " + err.Error()}
	}
	unix.Close(fd)
	return Ability{"pidfd", true, "a process is never mistaken for another"}
}
