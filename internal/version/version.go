// Package version says which build of a program runs: the version and the commit that the linker
// wrote, or what Go knows about the build where the linker wrote nothing (go install).
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Devel is the version of a program whose build named none.
const Devel = "devel"

// A Build says what a program was built from.
type Build struct {
	// Version is the name of a release, or Devel.
	Version string
	// Commit is the hash of the commit in hex, and empty if nothing knows it.
	Commit string
}

// Of completes the words of the linker, which are Devel and nothing in a plain go build, by what Go
// recorded about the build.
func Of(version, commit string) Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return of(version, commit, info)
}

func of(version, commit string, info *debug.BuildInfo) Build {
	b := Build{Version: version, Commit: commit}
	if (b.Version == "" || b.Version == Devel) && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = Devel
	}
	if b.Commit != "" {
		return b
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	b.Commit = settings["vcs.revision"]
	if b.Commit != "" && settings["vcs.modified"] == "true" {
		b.Commit += "-dirty"
	}
	return b
}

// Details is such as "commit 0123456789ab, go1.26.8, linux/amd64".
func (b Build) Details() string {
	details := fmt.Sprintf("%s, %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if b.Commit == "" {
		return details
	}
	return "commit " + b.Commit + ", " + details
}

// String is the version with the details in brackets.
func (b Build) String() string { return b.Version + " (" + b.Details() + ")" }
