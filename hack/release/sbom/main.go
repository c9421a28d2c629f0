// Command sbom writes a bill of materials for each of the given Go binaries, in JSON beside it: an
// SPDX 2.3 document, NAME.spdx.json, and a CycloneDX 1.6 document, NAME.cdx.json. It reads what the
// linker wrote into the binary, so that it lists what is in there, and not what a go.mod would
// allow. With --sums it also compares each module with a go.sum: one that is missing there, or has
// another sum, is an error.
//
// The same binary makes the same document: its time is SOURCE_DATE_EPOCH, or that of the commit in
// the binary, or 0. Licences are not looked for.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("sbom", flag.ContinueOnError)
	sumsFile := f.String("sums", "", "a go.sum that has to have every module of the binaries")
	version := f.String("version", "", "the version of the binaries, if the linker did not write one")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return fmt.Errorf("want the paths of Go binaries")
	}
	var sums map[string]string
	if *sumsFile != "" {
		text, err := os.ReadFile(*sumsFile)
		if err != nil {
			return err
		}
		sums = readSums(string(text))
	}
	for _, binary := range f.Args() {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		if *version != "" {
			info.Main.Version = *version
		}
		name, hash := filepath.Base(binary), sha256.Sum256(content)
		d, err := bill(name, info, hash, sums)
		if err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		raw, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(binary+".spdx.json", append(raw, '\n'), 0o644); err != nil {
			return err
		}
		var cyclone bytes.Buffer
		if err := writeCycloneDX(&cyclone, name, info, hash, d.CreationInfo.Created); err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		if err := os.WriteFile(binary+".cdx.json", cyclone.Bytes(), 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: %d modules, %s\n", binary, len(info.Deps), info.GoVersion)
	}
	return nil
}

// readSums reads a go.sum: the sum of each module and version.
func readSums(text string) map[string]string {
	sums := map[string]string{}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 3 && !strings.HasSuffix(fields[1], "/go.mod") {
			sums[fields[0]+"@"+fields[1]] = fields[2]
		}
	}
	return sums
}

// The parts of SPDX 2.3 that are used, https://spdx.github.io/spdx-spec/v2.3.
type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	SPDXID        string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	CreationInfo  creation       `json:"creationInfo"`
	Packages      []pack         `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pack struct {
	SPDXID        string      `json:"SPDXID"`
	Name          string      `json:"name"`
	Version       string      `json:"versionInfo"`
	Download      string      `json:"downloadLocation"`
	FilesAnalyzed bool        `json:"filesAnalyzed"`
	Licence       string      `json:"licenseConcluded"`
	Declared      string      `json:"licenseDeclared"`
	Copyright     string      `json:"copyrightText"`
	Purpose       string      `json:"primaryPackagePurpose,omitempty"`
	Comment       string      `json:"comment,omitempty"`
	Checksums     []checksum  `json:"checksums,omitempty"`
	References    []reference `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const none = "NOASSERTION"

// bill is the document of a binary. sums is nil if there is nothing to compare with.
func bill(name string, info *debug.BuildInfo, hash [sha256.Size]byte, sums map[string]string) (*document, error) {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	made, err := created(settings["vcs.time"])
	if err != nil {
		return nil, err
	}
	sum := hex.EncodeToString(hash[:])
	root := module(name, &info.Main)
	root.SPDXID, root.Name, root.Purpose = "SPDXRef-binary", name, "APPLICATION"
	root.Checksums = []checksum{{"SHA256", sum}}
	root.Comment = fmt.Sprintf("package %s for %s/%s", info.Path, settings["GOOS"], settings["GOARCH"])
	goVersion := standardLibrary(info)
	std := module("stdlib", &debug.Module{Path: "std", Version: goVersion})
	std.References = []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/stdlib@" + goVersion}}
	d := &document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: name,
		Namespace:     "https://github.com/diseq/diseq/sbom/" + name + "-" + sum,
		CreationInfo:  creation{made, []string{"Tool: github.com/diseq/diseq/hack/release/sbom"}},
		Packages:      []pack{root, std},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root.SPDXID}, {root.SPDXID, "DEPENDS_ON", std.SPDXID}},
	}
	for _, dependency := range info.Deps {
		m := compiled(dependency)
		if had, ok := sums[m.Path+"@"+m.Version]; sums != nil && (!ok || had != m.Sum) {
			return nil, fmt.Errorf("module %s@%s has the sum %q, go.sum has %q: it was not built from this go.sum", m.Path, m.Version, m.Sum, had)
		}
		p := module(m.Path, m)
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, relationship{root.SPDXID, "DEPENDS_ON", p.SPDXID})
	}
	return d, nil
}

// compiled is the module whose code is in the binary: a replacement counts.
func compiled(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// standardLibrary is the version of Go without the word, and without its experiments.
func standardLibrary(info *debug.BuildInfo) string {
	return strings.TrimPrefix(strings.Fields(info.GoVersion + " ")[0], "go")
}

var idCharacters = regexp.MustCompile(`[^A-Za-z0-9.]+`)

func module(name string, m *debug.Module) pack {
	p := pack{
		SPDXID: "SPDXRef-" + idCharacters.ReplaceAllString(name+"-"+m.Version, "-"), Name: name, Version: m.Version,
		Download: none, Licence: none, Declared: none, Copyright: none,
		References: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.Path + "@" + m.Version}},
	}
	if m.Sum != "" {
		p.Comment = "go.sum " + m.Sum
	}
	return p
}

// created is the time of the document.
func created(commit string) (string, error) {
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return "", fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		return time.Unix(seconds, 0).UTC().Format(time.RFC3339), nil
	}
	if commit != "" {
		return commit, nil
	}
	return time.Unix(0, 0).UTC().Format(time.RFC3339), nil
}
