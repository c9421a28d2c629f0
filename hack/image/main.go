// Command image makes the repository's container images without an engine and without a registry,
// as archives that `docker load`, `kind load image-archive` and `ctr images import` read.
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
	"runtime"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	r := request{args: map[string]string{}}
	var file, out, tag string
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&file, "dockerfile", "Dockerfile", "the Dockerfile")
	f.StringVar(&r.target, "target", "", "its final stage to make; the base alone if left out")
	f.StringVar(&r.context, "from", ".", "the directory that stands for the root of the stages that COPY --from names")
	f.StringVar(&r.arch, "arch", runtime.GOARCH, "the architecture, as Go names it")
	f.StringVar(&tag, "tag", "", "name and tag of the image, such as diseq:dev")
	f.StringVar(&out, "out", "", "the archive to write")
	f.Func("build-arg", "a build argument, `NAME=VALUE`", func(s string) error { return r.argument(s) })
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || tag == "" || out == "" {
		return fmt.Errorf("want --tag NAME:TAG and --out FILE, and no arguments; have --tag %q --out %q %q", tag, out, f.Args())
	}
	img, err := base(r.arch)
	if err != nil {
		return err
	}
	if r.target != "" {
		text, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = text.Close() }() // it was only read
		if img, err = r.build(img, text); err != nil {
			return fmt.Errorf("%s, target %s: %w", file, r.target, err)
		}
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
