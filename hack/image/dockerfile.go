package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// A request says which stage to make, and of what.
type request struct {
	target, context, arch string
	// level is the compression of the layers, as compress/gzip counts.
	level int
	// args are the build arguments given.
	args map[string]string
}

func (r *request) argument(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q: want NAME=VALUE", s)
	}
	r.args[name] = value
	return nil
}

// build follows the instructions of a stage on top of an image, as BuildKit does. It refuses those
// that it does not know.
func (r *request) build(img v1.Image, dockerfile io.Reader) (v1.Image, error) {
	stage, err := r.stage(dockerfile)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	b := stageBuild{request: r, config: *cf.Config.DeepCopy(), values: map[string]string{}}
	for _, e := range b.config.Env {
		name, value, _ := strings.Cut(e, "=")
		b.values[name] = value
	}
	b.config.Labels = map[string]string{}
	for _, c := range stage.Commands {
		if err := b.command(c); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", c.Location()[0].Start.Line, strings.ToUpper(c.Name()), err)
		}
	}
	layer, err := newLayer(b.files, b.level)
	if err != nil {
		return nil, err
	}
	history := v1.History{CreatedBy: "hack/image, target " + r.target}
	if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history}); err != nil {
		return nil, err
	}
	if cf, err = img.ConfigFile(); err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.Config = b.config
	return mutate.ConfigFile(img, cf)
}

// stage finds the target, which must stand on the base image.
func (r *request) stage(dockerfile io.Reader) (*instructions.Stage, error) {
	parsed, err := parser.Parse(dockerfile)
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	i, ok := instructions.HasStage(stages, r.target)
	if !ok {
		return nil, fmt.Errorf("there is no such stage")
	}
	if stages[i].BaseName != "${BASE_IMAGE}" {
		return nil, fmt.Errorf("it is made FROM %s, want ${BASE_IMAGE}", stages[i].BaseName)
	}
	return &stages[i], nil
}

// A stageBuild is a stage that is being built.
type stageBuild struct {
	*request
	config v1.Config
	// values are the values of $NAME.
	values map[string]string
	files  []entry
}

// Get returns the value of a name.
func (b *stageBuild) Get(name string) (string, bool) {
	value, ok := b.values[name]
	return value, ok
}

// Keys returns the names that have a value.
func (b *stageBuild) Keys() []string {
	keys := make([]string, 0, len(b.values))
	for k := range b.values {
		keys = append(keys, k)
	}
	return keys
}

func (b *stageBuild) expand(word string) (string, error) {
	out, _, err := shell.NewLex('\\').ProcessWord(word, b)
	return out, err
}

func (b *stageBuild) command(c instructions.Command) error {
	if e, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		if err := e.Expand(b.expand); err != nil {
			return err
		}
	}
	switch c := c.(type) {
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			if given, ok := b.args[a.Key]; ok {
				b.values[a.Key] = given
			} else if a.Value != nil {
				b.values[a.Key] = *a.Value
			}
		}
	case *instructions.LabelCommand:
		for _, l := range c.Labels {
			b.config.Labels[l.Key] = l.Value
		}
	case *instructions.EnvCommand:
		for _, e := range c.Env {
			b.values[e.Key] = e.Value
			b.config.Env = slices.DeleteFunc(b.config.Env, func(have string) bool { return strings.HasPrefix(have, e.Key+"=") })
			b.config.Env = append(b.config.Env, e.Key+"="+e.Value)
		}
	case *instructions.UserCommand:
		b.config.User = c.User
	case *instructions.WorkdirCommand:
		if !path.IsAbs(c.Path) {
			return fmt.Errorf("%s is not absolute", c.Path)
		}
		b.config.WorkingDir = path.Clean(c.Path)
	case *instructions.ExposeCommand:
		return b.expose(c.Ports)
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			return fmt.Errorf("want a JSON array: there is no shell in the image")
		}
		b.config.Entrypoint = c.CmdLine
	case *instructions.CopyCommand:
		return b.copy(c)
	default:
		return fmt.Errorf("hack/image does not know this instruction; teach it, or leave it to the earlier stages")
	}
	return nil
}

func (b *stageBuild) expose(ports []string) error {
	if b.config.ExposedPorts == nil {
		b.config.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range ports {
		p, err := b.expand(p)
		if err != nil {
			return err
		}
		if !strings.Contains(p, "/") {
			p += "/tcp"
		}
		b.config.ExposedPorts[p] = struct{}{}
	}
	return nil
}

// copy takes an executable from another stage into the image's root.
func (b *stageBuild) copy(c *instructions.CopyCommand) error {
	to := c.DestPath
	if c.From == "" || c.Chown != "" || c.Chmod != "" || len(c.SourcePaths) != 1 || path.Dir(to) != "/" || strings.HasSuffix(to, "/") {
		return fmt.Errorf("want --from=STAGE, one executable, and a path of it in the image's root")
	}
	content, err := os.ReadFile(filepath.Join(b.context, path.Base(c.SourcePaths[0])))
	if err != nil {
		return err
	}
	b.files = append(b.files, entry{path: to[1:], mode: 0o755, content: content})
	return nil
}
