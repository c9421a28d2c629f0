// Command mkimg makes an image archive that `docker load` and `ctr images
// import` read, out of one layer tar. No engine and no registry is involved.
//
//	mkimg -tag NAME:TAG... -layer FILE.tar -out FILE [-user UID:GID] [-env K=V]...
//	      [-label K=V]... [-stop-signal SIG] [ENTRYPOINT...]
//
// The layer is stored, not deflated: these images stay on the machine.
package main

import (
	"compress/gzip"
	"errors"
	"flag"
	"log"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal("mkimg: ", err)
	}
}

func run() error {
	layer := flag.String("layer", "", "tar file with the image's only layer")
	out := flag.String("out", "", "archive to write")
	config := v1.Config{
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{},
	}
	flag.StringVar(&config.User, "user", "", "user of the process")
	flag.StringVar(&config.StopSignal, "stop-signal", "", "signal that stops the process")
	var tags []name.Tag
	flag.Func("tag", "image name with tag; several for an image with several names", func(s string) error {
		tag, err := name.NewTag(s)
		tags = append(tags, tag)
		return err
	})
	flag.Func("env", "environment variable, K=V", func(s string) error {
		config.Env = append(config.Env, s)
		return nil
	})
	flag.Func("label", "label, K=V", func(s string) error {
		k, v, _ := strings.Cut(s, "=")
		config.Labels[k] = v
		return nil
	})
	flag.Parse()
	config.Entrypoint = flag.Args()
	if len(tags) == 0 {
		return errors.New("name the image with -tag NAME:TAG")
	}
	l, err := tarball.LayerFromFile(*layer, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return err
	}
	return write(*out, tags, img)
}

func write(path string, tags []name.Tag, img v1.Image) (err error) {
	images := map[name.Tag]v1.Image{}
	for _, tag := range tags {
		images[tag] = img
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return tarball.MultiWrite(images, f)
}
