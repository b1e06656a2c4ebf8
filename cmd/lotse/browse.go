package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// openerFails is how long a program that opens addresses has to say that it cannot. One that stays longer is the browser itself.
const openerFails = 3 * time.Second

// browse opens an address in the browser of whoever sits at this machine.
func browse(ctx context.Context, address string) error {
	opener, seen := "xdg-open", os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	if runtime.GOOS == "darwin" {
		opener, seen = "open", true
	}
	if !seen {
		return fmt.Errorf("%w: there is no display", deploy.ErrUnsupported)
	}
	cmd := exec.Command(opener, address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a browser is not to end with the terminal
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w: there is no %s", deploy.ErrUnsupported, opener)
	} else if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("%w: %s: %w", deploy.ErrUnsupported, opener, err)
		}
	case <-time.After(openerFails):
	case <-ctx.Done():
	}
	return nil
}
