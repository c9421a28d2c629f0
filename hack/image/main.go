// Command image makes the repository's container images without an engine and without a registry,
// as archives that `docker load`, `kind load image-archive` and `ctr images import` read. With
// --oci it makes one image for several architectures, as the archive of an OCI layout.
//
// An image consists of the base below, the binary, and the user, entrypoint, labels and ports that
// the final stage of the Dockerfile gives. The command reads the Dockerfile, so that nothing is
// written down twice; an instruction that it cannot follow is an error. The same input gives the
// same digest: no time, no name of the machine and no order of a map enters it. An archive that
// holds the image already is not touched.
//
// The command compiles nothing (see build.sh), and it knows instructions of final stages only.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	r := request{args: map[string]string{}}
	var file, out, tag, several string
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&file, "dockerfile", "Dockerfile", "the Dockerfile")
	f.StringVar(&r.target, "target", "", "its final stage to make; the base alone if left out")
	f.StringVar(&r.context, "from", ".", "the directory that stands for the root of the stages that COPY --from names")
	f.StringVar(&r.arch, "arch", runtime.GOARCH, "the architecture, as Go names it")
	f.StringVar(&tag, "tag", "", "name and tag of the image, such as diseq:dev")
	f.StringVar(&out, "out", "", "the archive to write")
	f.StringVar(&several, "oci", "", "make an OCI layout for these architectures, `amd64,arm64`; --from has a folder linux-ARCH for each")
	f.Func("build-arg", "a build argument, `NAME=VALUE`", func(s string) error { return r.argument(s) })
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || tag == "" || out == "" {
		return fmt.Errorf("want --tag NAME:TAG and --out FILE, and no arguments; have --tag %q --out %q %q", tag, out, f.Args())
	}
	if several != "" {
		return r.layout(file, tag, out, strings.Split(several, ","), stdout)
	}
	img, err := r.image(file)
	if err != nil {
		return err
	}
	written, err := save(out, tag, img)
	if err != nil {
		return err
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	state := "up to date"
	if written {
		state = "written"
	}
	_, err = fmt.Fprintf(stdout, "%s: %s %s, %s\n", out, tag, id, state)
	return err
}

// image makes the image of one architecture.
func (r *request) image(dockerfile string) (v1.Image, error) {
	img, err := base(r.arch, r.level)
	if err != nil || r.target == "" {
		return img, err
	}
	text, err := os.Open(dockerfile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = text.Close() }() // it was only read
	if img, err = r.build(img, text); err != nil {
		return nil, fmt.Errorf("%s, target %s: %w", dockerfile, r.target, err)
	}
	return img, nil
}

// layout makes the images of several architectures and writes them as the archive of an OCI layout,
// deflated, because such an archive travels.
func (r *request) layout(dockerfile, tag, out string, architectures []string, stdout io.Writer) error {
	made, err := creationTime()
	if err != nil {
		return err
	}
	images := make([]v1.Image, 0, len(architectures))
	for _, arch := range architectures {
		one := *r
		one.arch, one.context, one.level = arch, filepath.Join(r.context, "linux-"+arch), releaseLevel
		img, err := one.image(dockerfile)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		images = append(images, img)
	}
	digest, err := saveLayout(out, tag, images, made)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %s %s for %s, written\n", out, tag, digest, strings.Join(architectures, ", "))
	return err
}
