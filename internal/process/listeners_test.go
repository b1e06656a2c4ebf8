package process

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestShareListenersGivesTheSameListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	socket := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "s")
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ShareListeners(ctx, socket, []*os.File{file}) }()
	var got []*os.File
	var why error
	eventually(t, "the listener", func() bool {
		got, why = takeListeners(socket, []string{"tcp://" + l.Addr().String()})
		return why == nil
	})
	defer closeFiles(got)
	if files, err := takeListeners(socket, []string{"tcp://127.0.0.1:1"}); err == nil {
		closeFiles(files)
		t.Error("a listener of another address was taken")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket was left behind")
	}
}
