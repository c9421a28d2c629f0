// Command release has the steps of hack/release.sh that a shell cannot do in the same way on every
// machine: archives without times and owners, checksums, the manifest of the kubectl plugin, and
// the comparison of two releases.
//
//	release version VERSION COMMIT
//		print the version as chart and npm package want it
//	release pack -time T OUT NAME=FILE...
//		write an archive, .tar.gz, of these files
//	release repack -time T ARCHIVE
//		write an archive of another tool again, in the form of pack
//	release krew -version V -url U OUT ARCHIVE...
//		write the manifest of the kubectl plugin
//	release sums DIR
//		write DIR/SHA256SUMS
//	release compare DIR DIR
//		fail unless two folders have the same files, byte for byte
//
// The same input makes the same output: T is in seconds since 1970, as SOURCE_DATE_EPOCH.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("want version, pack, repack, krew, sums or compare")
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	seconds := f.Int64("time", 0, "the time of the files of an archive")
	version := f.String("version", "", "the release")
	url := f.String("url", "", "the folder on the web that has the archives")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	made, rest := time.Unix(*seconds, 0).UTC(), f.Args()
	wrong := func(want string) error { return fmt.Errorf("%s: want %s, have %q", args[0], want, rest) }
	switch args[0] {
	case "version":
		if len(rest) != 2 {
			return wrong("VERSION COMMIT")
		}
		v, err := semantic(rest[0], rest[1])
		if err == nil {
			_, err = fmt.Fprintln(stdout, v)
		}
		return err
	case "pack":
		if len(rest) < 2 {
			return wrong("OUT NAME=FILE...")
		}
		return packFiles(rest[0], rest[1:], made)
	case "repack":
		if len(rest) != 1 {
			return wrong("ARCHIVE")
		}
		return repack(rest[0], made)
	case "krew":
		if len(rest) < 2 || *version == "" || *url == "" {
			return wrong("-version, -url, OUT ARCHIVE...")
		}
		return writeKrew(rest[0], *version, *url, rest[1:])
	case "sums":
		if len(rest) != 1 {
			return wrong("DIR")
		}
		return writeSums(rest[0])
	case "compare":
		if len(rest) != 2 {
			return wrong("DIR DIR")
		}
		return compare(rest[0], rest[1], stdout)
	}
	return fmt.Errorf("%s: want version, pack, repack, krew, sums or compare", args[0])
}

var release = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

// semantic is a version by semver.org's rules, without the leading v. A commit without a tag
// becomes a version that sorts before every release.
func semantic(version, commit string) (string, error) {
	if release.MatchString(version) {
		return strings.TrimPrefix(version, "v"), nil
	}
	if !regexp.MustCompile(`^[0-9a-f]{12,}$`).MatchString(commit) {
		return "", fmt.Errorf("the version %s is not of the form v1.2.3, and %q is not the hash of a commit", version, commit)
	}
	// A number with a leading zero is not allowed there, and a hash may look like one.
	return "0.0.0-dev.g" + commit[:12], nil
}
