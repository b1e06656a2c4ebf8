package pgtest

import "syscall"

// diesWithUs has the kernel stop the server when the tests are killed.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT} }
