package main

import "golang.org/x/sys/unix"

// becomeUndumpable also keeps other processes of the same user from tracing this one and from
// reading its memory in /proc, unless they have CAP_SYS_PTRACE.
func becomeUndumpable() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
