package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// save writes an archive with an image, whole or not at all. It writes nothing if the archive holds
// the image already, and reports whether it wrote.
func save(file, tag string, img v1.Image) (written bool, err error) {
	ref, err := name.NewTag(tag)
	if err != nil {
		return false, err
	}
	if ok, err := holds(file, tag, img); ok || err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return false, err
	}
	fresh := file + ".new"
	if err := tarball.WriteToFile(fresh, ref, img); err != nil {
		return false, err
	}
	return true, os.Rename(fresh, file)
}

// holds reports whether an archive has an image under a tag already. An archive that cannot be read
// counts as empty and is made again.
func holds(file, tag string, img v1.Image) (bool, error) {
	id, err := img.ConfigName()
	if err != nil {
		return false, err
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(file) })
	if err != nil {
		return false, nil
	}
	return len(manifest) == 1 && manifest[0].Config == id.String() && len(manifest[0].RepoTags) == 1 && manifest[0].RepoTags[0] == tag, nil
}
