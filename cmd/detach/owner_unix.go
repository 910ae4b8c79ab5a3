//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// becomeOwner makes root's process one of the user that owns dir. Otherwise the service could not
// read what the process writes there: a key file that root has written anew would stop every
// download. It does nothing for other users, and if dir does not exist.
func becomeOwner(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
		return nil
	} else if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	uid, gid := int(owner.Uid), int(owner.Gid)
	err = errors.Join(syscall.Setgroups(groupsOf(uid, gid)), syscall.Setgid(gid), syscall.Setuid(uid))
	if err != nil {
		return fmt.Errorf("become the owner of %s: %w; run this as the user with the number %d", dir, err, uid)
	}
	return becomeUndumpable() // which a change of the user undoes
}

// groupsOf returns the groups of a user: one of them may be what lets the service read the token of
// its node. A user without a name, as in a container, has only the group of the directory.
func groupsOf(uid, gid int) []int {
	groups := []int{gid}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return groups
	}
	names, err := u.GroupIds()
	if err != nil {
		return groups
	}
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil && id != gid {
			groups = append(groups, id)
		}
	}
	return groups
}
