package plane

import (
	"context"
	"maps"
	"net"
	"syscall"
	"time"
)

// Dial implements Target: a connection to the instance's port, as over the network of the region.
func (i *Instance) Dial(ctx context.Context) (net.Conn, error) {
	if err := i.reachable(ctx, false); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	if i.waits() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", i.address())
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns[c] = struct{}{}
	return &instanceConn{c, i}, nil
}

// waits says whether the processes have not been started yet.
func (i *Instance) waits() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.holder != nil
}

// instanceConn can be cut when the network of its instance goes away.
type instanceConn struct {
	net.Conn
	i *Instance
}

func (c *instanceConn) Close() error {
	c.i.mu.Lock()
	delete(c.i.conns, c.Conn)
	c.i.mu.Unlock()
	return c.Conn.Close()
}

// cut closes every connection to the instance.
func (i *Instance) cut() {
	i.mu.Lock()
	open := maps.Clone(i.conns)
	i.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

// reachable waits while packets to the instance are lost, and for commands also while it is frozen. It fails when it is gone.
func (i *Instance) reachable(ctx context.Context, awake bool) error {
	for {
		i.mu.Lock()
		gone, lost := i.gone, i.away || awake && i.frozen
		i.mu.Unlock()
		if gone {
			return ErrGone
		}
		if !lost {
			return nil
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Freeze stops every process (SIGSTOP): connections are taken by the kernel and nobody answers. Commands of Exec hang.
func (i *Instance) Freeze() {
	i.mu.Lock()
	i.frozen = true
	i.mu.Unlock()
	i.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen instance go on.
func (i *Instance) Thaw() {
	i.mu.Lock()
	was := i.frozen
	i.frozen = false
	i.mu.Unlock()
	if was {
		i.signal(syscall.SIGCONT)
	}
}

// Leave takes the instance off the network: connections hang until their caller gives up. Return brings it back.
func (i *Instance) Leave() {
	i.mu.Lock()
	i.away = true
	i.mu.Unlock()
	i.cut()
}

// Return ends Leave.
func (i *Instance) Return() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = false
}

// Kill ends every process with SIGKILL. systemd starts them again.
func (i *Instance) Kill() { i.signal(syscall.SIGKILL) }

// Break ends every process and keeps it from being started again: connections are refused, and the app is broken.
func (i *Instance) Break() { i.wipe(i.stopUnits()) }

// stopUnits ends the restarts.
func (i *Instance) stopUnits() []<-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	var ends []<-chan struct{}
	for _, u := range i.running {
		ends = append(ends, u.stop())
	}
	return ends
}

// Mend starts the processes of a broken instance again. It is for after Break.
func (i *Instance) Mend() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.gone {
		return
	}
	for _, u := range i.running {
		u.start()
	}
}

// Restart ends the processes with SIGTERM and the grace and starts them again, as RestartAppServer does.
func (i *Instance) Restart(ctx context.Context) {
	ends := i.stopUnits()
	i.signal(syscall.SIGTERM)
	grace, cancel := context.WithTimeout(ctx, i.o.Grace)
	defer cancel()
	_ = i.await(grace, ends) // what is left is killed
	i.wipe(ends)
	i.Mend()
}
