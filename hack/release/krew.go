package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The manifest of a plugin as krew reads it, see
// krew.sigs.k8s.io/docs/developer-guide/plugin-manifest. It is written as JSON, which is YAML.
type plugin struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       pluginSpec     `json:"spec"`
}

type pluginSpec struct {
	Version          string     `json:"version"`
	Homepage         string     `json:"homepage"`
	ShortDescription string     `json:"shortDescription"`
	Description      string     `json:"description"`
	Platforms        []platform `json:"platforms"`
}

type platform struct {
	Selector map[string]map[string]string `json:"selector"`
	URI      string                       `json:"uri"`
	SHA256   string                       `json:"sha256"`
	Bin      string                       `json:"bin"`
	Files    []pluginFile                 `json:"files"`
}

type pluginFile struct {
	From string `json:"from"`
	To   string `json:"to"`
}

const pluginBinary = "kubectl-diseq"

var pluginArchive = regexp.MustCompile(`^` + pluginBinary + `_.*_(linux|darwin)_(amd64|arm64)\.tar\.gz$`)

// writeKrew writes the manifest of the plugin in these archives. version is a semantic version;
// krew wants a v before it.
func writeKrew(out, version, url string, archives []string) error {
	m := plugin{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: map[string]any{"name": "diseq"},
		Spec: pluginSpec{
			Version: "v" + version, Homepage: "https://github.com/diseq/diseq",
			ShortDescription: "Look at and operate DISEQ networks",
			Description: "Shows what the validators of a DiseqNetwork do and what the network tolerates, submits messages,\n" +
				"follows the order, verifies receipts, replaces and restarts validators.\n",
		},
	}
	for _, archive := range archives {
		name := filepath.Base(archive)
		found := pluginArchive.FindStringSubmatch(name)
		if found == nil {
			return fmt.Errorf("%s: want an archive %s_VERSION_OS_ARCH.tar.gz", archive, pluginBinary)
		}
		hash, err := sum(archive)
		if err != nil {
			return err
		}
		m.Spec.Platforms = append(m.Spec.Platforms, platform{
			Selector: map[string]map[string]string{"matchLabels": {"os": found[1], "arch": found[2]}},
			URI:      strings.TrimSuffix(url, "/") + "/" + name, SHA256: hash, Bin: pluginBinary,
			Files: []pluginFile{{pluginBinary, "."}, {"LICENSE", "."}},
		})
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(raw, '\n'), 0o644)
}
