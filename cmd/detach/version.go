package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints version, commit and platform, for bug reports.
func (versionCmd) Run(e *env) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	_, err := fmt.Fprintln(e.stdout, describe(info))
	return err
}

func describe(info *debug.BuildInfo) string {
	version, commit, modified, tags := info.Main.Version, "unknown", "", ""
	if version == "" {
		version = "(devel)"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		case s.Key == "-tags":
			tags = ", " + s.Value // pdfjs: it shows PDF files
		}
	}
	return fmt.Sprintf("detach %s (commit %s%s%s, %s, %s/%s)", version, commit, modified, tags, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
