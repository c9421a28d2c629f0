package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	goyaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node/peersfile"
)

// editPeers changes a peers file whole or not at all, and only if nobody else changed it meanwhile.
// Of a file in YAML the comments stay, and only target and checkpoint are written.
func editPeers(path string, change func(*peersfile.File)) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, err := peersfile.Read(path)
	if err != nil {
		return err
	}
	change(file)
	var out []byte
	if bytes.HasPrefix(bytes.TrimLeft(before, " \t\r\n"), []byte("{")) {
		out, err = json.MarshalIndent(file, "", "  ")
		out = append(out, '\n')
	} else {
		out, err = editYAML(before, file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, out, info.Mode().Perm()); err != nil {
		return err
	}
	// A node would keep to the old content if the new one were wrong: better not to write it.
	if _, err := peersfile.Read(fresh); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
		return errors.Join(fmt.Errorf("%s: %w", path, errChanged), err, os.Remove(fresh))
	}
	if err := durable.Sync(fresh); err != nil {
		return err
	}
	return durable.Rename(fresh, path)
}

// editYAML puts target and checkpoint of the file into its text.
func editYAML(text []byte, file *peersfile.File) ([]byte, error) {
	var document goyaml.Node
	if err := goyaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if document.Kind == 0 { // nothing but comments
		document = goyaml.Node{Kind: goyaml.DocumentNode, Content: []*goyaml.Node{{Kind: goyaml.MappingNode}}}
	}
	root := document.Content[0]
	for _, part := range []struct {
		name  string
		value any
		there bool
	}{{"target", file.Target, file.Target != nil}, {"checkpoint", file.Checkpoint, file.Checkpoint != nil}} {
		at := -1
		for i := 0; i < len(root.Content); i += 2 {
			if root.Content[i].Value == part.name {
				at = i
			}
		}
		if at >= 0 {
			root.Content = slices.Delete(root.Content, at, at+2)
		}
		if !part.there {
			continue
		}
		raw, err := yaml.Marshal(part.value) // under the names of JSON
		if err != nil {
			return nil, err
		}
		var value goyaml.Node
		if err := goyaml.Unmarshal(raw, &value); err != nil {
			return nil, err
		}
		root.Content = append(root.Content, &goyaml.Node{Kind: goyaml.ScalarNode, Value: part.name}, value.Content[0])
	}
	var out bytes.Buffer
	e := goyaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(&document), e.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
