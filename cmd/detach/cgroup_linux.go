package main

import (
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// cgroupLimit returns the memory that the process's control group and the groups around it allow,
// in bytes (cgroups(7)), or 0 if there is no limit.
func cgroupLimit() int64 {
	groups, _ := os.ReadFile("/proc/self/cgroup") // best effort: if it cannot be read, no limit is known
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) {
		// number:controllers:path; version 2 has number 0 and no controllers.
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[1] == "memory":
			limit = min(limit, limitOf("/sys/fs/cgroup/memory", fields[2], "memory.limit_in_bytes"))
		case fields[0] == "0" && fields[1] == "":
			limit = min(limit, limitOf("/sys/fs/cgroup", fields[2], "memory.max"))
		}
	}
	if limit > 1<<50 { // version 1 has a huge number for no limit
		return 0
	}
	return limit
}

// limitOf returns the lowest limit of a group and the groups around it.
func limitOf(root, group, file string) int64 {
	limit := int64(math.MaxInt64)
	for dir := path.Join("/", group); ; dir = path.Dir(dir) {
		text, err := os.ReadFile(path.Join(root, dir, file)) // in a container, only its own group is there
		if n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && parseErr == nil {
			limit = min(limit, n)
		}
		if dir == "/" {
			return limit
		}
	}
}
