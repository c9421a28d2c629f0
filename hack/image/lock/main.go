// Command lock keeps the digests of the base images in the ARG lines of a Dockerfile, which are the
// lock: name:tag says what was meant, and the digest which it was. It asks the registries.
//
//	lock Dockerfile          write the present digests of the tags
//	lock -check Dockerfile   change nothing, and say what is wrong with the lock
//
// Exit status of -check: 0, all is well; 1, a locked image cannot be used, because its registry
// does not have that digest, has other content under it, or has it not for every architecture; 2, a
// registry does not answer, so nothing is known; 3, the images can be used, and a tag has moved on.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// architectures are those of a release, all for linux.
var architectures = []string{"amd64", "arm64"}

const (
	unusable = 1
	unknown  = 2
	moved    = 3
)

func main() {
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lock:", err)
	}
	os.Exit(code)
}

// run returns the exit status.
func run(args []string, stdout, stderr io.Writer) (int, error) {
	f := flag.NewFlagSet("lock", flag.ContinueOnError)
	f.SetOutput(stderr)
	check := f.Bool("check", false, "change nothing, and say what is wrong with the lock")
	if err := f.Parse(args); err != nil {
		return unknown, err
	}
	if f.NArg() != 1 {
		return unknown, fmt.Errorf("want the path of a Dockerfile, have %q", f.Args())
	}
	// The requests are few and small: a registry that is not there is not worth a longer wait.
	client := http.DefaultTransport.(*http.Transport).Clone()
	client.ResponseHeaderTimeout = 30 * time.Second
	options := []remote.Option{remote.WithTransport(client), remote.WithRetryBackoff(remote.Backoff{Duration: time.Second, Steps: 2})}
	text, err := os.ReadFile(f.Arg(0))
	if err != nil {
		return unknown, err
	}
	locks := argument.FindAllSubmatch(text, -1)
	if len(locks) == 0 {
		return unknown, fmt.Errorf("%s has no line ARG *_IMAGE=NAME:TAG@DIGEST", f.Arg(0))
	}
	if *check {
		return checkAll(locks, stdout, options)
	}
	for _, m := range locks {
		now, err := digest(string(m[2]), options)
		if err != nil {
			return unknown, err
		}
		fmt.Fprintf(stdout, "%s: %s is %s\n", m[1], m[2], now)
		line := fmt.Sprintf("ARG %s=%s@%s", m[1], m[2], now)
		text = regexp.MustCompile(`(?m)^ARG `+string(m[1])+`=.*$`).ReplaceAllLiteral(text, []byte(line))
	}
	return 0, os.WriteFile(f.Arg(0), text, 0o644)
}

// argument matches the line of a base image: its name, NAME:TAG, and the digest.
var argument = regexp.MustCompile(`(?m)^ARG ([A-Z]+_IMAGE)=([^@\s]+)@?(\S*)$`)

// digest is that of the index of all architectures that a tag names now.
func digest(tagged string, options []remote.Option) (string, error) {
	tag, err := name.NewTag(tagged)
	if err != nil {
		return "", err
	}
	d, err := remote.Head(tag, options...)
	if err != nil {
		return "", fmt.Errorf("the registry of %s does not say its digest: %w", tagged, err)
	}
	return d.Digest.String(), nil
}

// checkAll looks at every image, so that one answer names all that is wrong, and returns the worst
// status: what is wrong counts more than what is not known, and that more than what has moved.
func checkAll(locks [][][]byte, stdout io.Writer, options []remote.Option) (int, error) {
	found := make([]int, 0, len(locks))
	for _, m := range locks {
		tagged, locked := string(m[2]), string(m[3])
		code, text := judge(tagged, locked, options)
		fmt.Fprintf(stdout, "%s: %s: %s\n", m[1], tagged, text)
		found = append(found, code)
	}
	for _, worst := range []int{unusable, unknown, moved} {
		if slices.Contains(found, worst) {
			return worst, nil
		}
	}
	return 0, nil
}

// judge says whether a locked image can be used, and whether its tag has moved on.
func judge(tagged, locked string, options []remote.Option) (code int, text string) {
	ref, err := name.NewDigest(tagged[:strings.LastIndexByte(tagged, ':')] + "@" + locked)
	if err != nil {
		return unusable, "it is not locked by a digest: " + err.Error()
	}
	// Get compares the content with the digest.
	got, err := remote.Get(ref, options...)
	var refused *transport.Error
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return unusable, "the registry does not have " + locked
	case err != nil && strings.Contains(err.Error(), "manifest digest"):
		return unusable, "the registry has other content under " + locked + ": " + err.Error()
	case err != nil:
		return unknown, "not checked, the registry does not answer: " + err.Error()
	}
	index, err := got.ImageIndex()
	if err != nil {
		return unusable, locked + " is not an index of several architectures"
	}
	m, err := index.IndexManifest()
	if err != nil {
		return unusable, locked + " cannot be read: " + err.Error()
	}
	var have []string
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.OS == "linux" {
			have = append(have, d.Platform.Architecture)
		}
	}
	for _, arch := range architectures {
		if !slices.Contains(have, arch) {
			return unusable, fmt.Sprintf("%s is not for linux/%s, only for %s", locked, arch, strings.Join(have, ", "))
		}
	}
	now, err := digest(tagged, options)
	switch {
	case err != nil:
		return unknown, locked + " is there; " + err.Error()
	case now != locked:
		return moved, fmt.Sprintf("%s is there, and the tag has moved on to %s", locked, now)
	}
	return 0, locked + " is there, for " + strings.Join(architectures, " and ")
}
