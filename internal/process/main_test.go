package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also every program that the tests start: a keeper, and children that do one thing each.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "keep": // keep DIR
			exitWith(Keep(context.Background(), os.Args[2], os.Stdin))
		case "keep-without-cgroup":
			exitWith(keep(context.Background(), os.Args[2], os.Stdin, ""))
		case "child": // child PROGRAM ARGS…
			exitWith(children[os.Args[2]](os.Args[3:]))
		}
	}
	os.Exit(m.Run())
}

// exitWith ends a child at once: os.Exit takes a second under the race detector. What the detector has found stands in
// keeper.log, which instance reads.
func exitWith(err error) {
	code := 0
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(code), 0, 0)
}

var children = map[string]func(args []string) error{
	"exit": func(args []string) error { // CODE
		code, err := strconv.Atoi(args[0])
		if err == nil {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(code), 0, 0)
		}
		return err
	},
	"sleep":    func([]string) error { select {} },
	"stubborn": stubborn,
	"say":      say,
	"count":    count,
	"serve":    serve,
	"stray":    stray,
	"who":      who,
	"listen":   listenOnAny,
	"run":      runForever,
}

// stubborn does not end on SIGTERM.
func stubborn([]string) error {
	signal.Ignore(unix.SIGTERM)
	fmt.Println("stubborn")
	select {}
}

// say writes each argument with one write, as Go would unquote it, and ends.
func say(args []string) error {
	for _, a := range args {
		text, err := strconv.Unquote(`"` + a + `"`)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString(text); err != nil {
			return err
		}
	}
	return nil
}

// count writes numbered lines until it is killed: FILE says up to where it may.
func count(args []string) error {
	for n := 1; ; n++ {
		for {
			raw, _ := os.ReadFile(args[0])
			if limit, _ := strconv.Atoi(strings.TrimSpace(string(raw))); n <= limit {
				break
			}
			time.Sleep(time.Millisecond) //nolint:forbidigo // a child program that polls a file
		}
		if _, err := fmt.Printf("line %d\n", n); err != nil {
			return fmt.Errorf("wrote %d: %w", n, err)
		}
	}
}

// serve answers each connection with its pid, on the inherited listener, and gives the listener back at SOCKET.
func serve(args []string) error {
	files, err := inheritedFiles()
	if err != nil || len(files) != 1 {
		return fmt.Errorf("%d inherited listeners: %w", len(files), err)
	}
	go ShareListeners(context.Background(), args[0], files)
	l, err := net.FileListener(files[0])
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintf(conn, "%d\n", os.Getpid())
		conn.Close()
	}
}

// stray leaves a process behind that has its own session, no environment and no parent, and writes its pid into FILE. With a
// second argument it stays itself.
func stray(args []string) error {
	if args[0] == "fork" { // fork FILE: the process in between
		cmd := exec.Command(os.Args[0], "child", "sleep")
		cmd.Env = []string{"A=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		return os.WriteFile(args[1], fmt.Append(nil, cmd.Process.Pid), 0o644)
	}
	cmd := exec.Command(os.Args[0], "child", "stray", "fork", args[0])
	cmd.Env = []string{"A=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return err
	}
	if len(args) > 1 {
		select {}
	}
	return nil
}

// who says what it may do.
func who([]string) error {
	umask := unix.Umask(0)
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	sid, _ := unix.Getsid(0)
	privs, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	dev, devErr := os.OpenFile("/dev/stdout", os.O_WRONLY, 0)
	dev.Close()
	fmt.Printf("uid=%d gid=%d groups=%v no_new_privs=%d umask=%03o leader=%v dev_stdout=%v\n",
		os.Getuid(), os.Getgid(), groups, privs, umask, sid == os.Getpid(), devErr)
	for fd := 3; fd < 100; fd++ {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") { // those are of the Go runtime
			fmt.Println("inherited", fd, target)
		}
	}
	return nil
}

// listenOnAny listens on two ports of its own, one in a child, and says which.
func listenOnAny(args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	client, err := net.Dial("tcp", l.Addr().String()) // a port that is not listened on
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	if len(args) > 0 {
		cmd := exec.Command(os.Args[0], "child", "listen")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	}
	select {}
}

// runForever runs, as a controller would, a stray and itself, and waits: FILE.
func runForever(args []string) error {
	_, err := Run(context.Background(), Spec{Name: "t", Command: []string{os.Args[0], "child", "stray", args[0], "stay"}, Env: os.Environ()}, nil)
	return err
}

// ---- what the tests share

// self is the command line of a child program.
func self(program string, args ...string) []string {
	return append([]string{exe(), "child", program}, args...)
}

func exe() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

func keepers() *Keepers { return &Keepers{Command: []string{exe(), "keep"}} }

// instance is a directory that is stopped at the end of its test, whatever happened in it.
func instance(t *testing.T) string {
	t.Helper()
	return instanceIn(t, t.TempDir())
}

func instanceIn(t *testing.T, parent string) string {
	t.Helper()
	dir := filepath.Join(parent, "i")
	t.Cleanup(func() {
		if s, err := Inspect(dir); t.Failed() && err == nil && s.Keeper {
			_ = unix.Kill(s.KeeperPID, unix.SIGQUIT) // its goroutines, into keeper.log
			eventually(t, "the keeper's autopsy", func() bool { return !lives(s.KeeperPID) })
		}
		if err := keepers().Stop(context.Background(), dir, 0); err != nil {
			t.Errorf("stop at the end: %v", err)
		}
		if said, _ := os.ReadFile(filepath.Join(dir, keeperName)); strings.Contains(string(said), "DATA RACE") {
			t.Errorf("a race in the keeper: %s", said)
		}
		if t.Failed() {
			state, _ := os.ReadFile(filepath.Join(dir, stateName))
			said, _ := os.ReadFile(filepath.Join(dir, keeperName))
			lines, _ := Lines(dir, 20)
			t.Logf("state: %s\nkeeper: %s\nlog: %v", state, said, lines)
		}
	})
	return dir
}

// soon is a context that is longer than anything here may take.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("it took too long"))
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, dir string, spec Spec) Status {
	t.Helper()
	if err := keepers().Start(soon(t), dir, spec); err != nil {
		t.Fatalf("start: %v", err)
	}
	return inspect(t, dir)
}

func inspect(t *testing.T, dir string) Status {
	t.Helper()
	s, err := Inspect(dir)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return s
}

func await(t *testing.T, dir, what string, until func(Status) bool) Status {
	t.Helper()
	s, err := Await(soon(t), dir, until)
	if err != nil {
		t.Fatalf("%s: %v; status %+v", what, err, s)
	}
	return s
}

// eventually polls a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) { //nolint:forbidigo // this is what waits for a condition
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

func lives(pid int) bool {
	s, err := readStat(pid)
	return err == nil && !s.dead()
}

func texts(t *testing.T, dir string) []string {
	t.Helper()
	lines, err := Lines(dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]string, len(lines))
	for i, l := range lines {
		all[i] = l.Text
	}
	return all
}

// ask connects and reads one line.
func ask(address string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimSpace(line), err
}

// startChild starts a child program of the test itself, without any keeper.
func startChild(t *testing.T, program string, args ...string) int {
	t.Helper()
	argv := self(program, args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
