// Command protogen compiles protobuf schemas and runs code-generation plugins on them. It stands in
// for protoc: it is pure Go, pinned by this module's go.sum, and needs neither a C++ toolchain nor
// a schema registry.
//
//	protogen -root DIR -plugin PATH[:parameter] [-plugin ...] FILE.proto ...
//
// FILE is relative to DIR, which is also where imports are looked up (the well-known
// google/protobuf types are built in) and where the plugins' output lands. A file whose content
// would not change is not written.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("protogen", flag.ContinueOnError)
	root := flags.String("root", ".", "directory that holds the schemas and receives the output")
	var plugins []string
	flags.Func("plugin", "plugin executable, optionally followed by a colon and its parameter", func(s string) error {
		plugins = append(plugins, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 || len(plugins) == 0 {
		return errors.New("name at least one -plugin and one schema")
	}

	request, err := compile(*root, flags.Args())
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		path, parameter, _ := strings.Cut(plugin, ":")
		files, err := generate(path, parameter, request)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		for _, file := range files {
			if err := write(*root, file); err != nil {
				return err
			}
		}
	}
	return nil
}

// compile parses and links the schemas and lists every file they reach, dependencies first, as a
// plugin expects it. Comments are kept, so that they reach the generated code.
func compile(root string, names []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: names}
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		imports := file.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		request.ProtoFile = append(request.ProtoFile, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range linked {
		add(file)
	}
	return request, nil
}

func generate(path, parameter string, request *pluginpb.CodeGeneratorRequest) (
	[]*pluginpb.CodeGeneratorResponse_File, error,
) {
	request.Parameter = new(parameter)
	input, err := proto.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	cmd := exec.Command(path)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return nil, fmt.Errorf("decode response: %w", err)
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response.File, nil
}

// write refuses a name that would leave root. Leaving an equal file alone keeps its modification
// time, and with it the build's cached results.
func write(root string, file *pluginpb.CodeGeneratorResponse_File) error {
	if !filepath.IsLocal(file.GetName()) {
		return fmt.Errorf("output %q lies outside %s", file.GetName(), root)
	}
	path := filepath.Join(root, file.GetName())
	if old, err := os.ReadFile(path); err == nil && string(old) == file.GetContent() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(file.GetContent()), 0o644)
}
