package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// tool names this program in a document. It has no hash, which would be another one on a machine of
// another kind.
const tool = "github.com/diseq/diseq/hack/release/sbom"

// writeCycloneDX writes a CycloneDX document of a binary: the binary with its hash, and the
// standard library and the modules that it was compiled from, each with its hash from go.sum. made
// is the time of the document.
func writeCycloneDX(w io.Writer, name string, info *debug.BuildInfo, hash [sha256.Size]byte, made string) error {
	root := cyclonedx.Component{
		BOMRef: name, Type: cyclonedx.ComponentTypeApplication, Name: name, Version: info.Main.Version,
		PackageURL: "pkg:golang/" + info.Main.Path + "@" + info.Main.Version,
		Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(hash[:])}},
		Licenses:   &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}},
		Properties: settings(info),
	}
	std := "pkg:golang/std@" + standardLibrary(info)
	parts := []cyclonedx.Component{{
		BOMRef: std, Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: standardLibrary(info), PackageURL: std,
		Scope: cyclonedx.ScopeRequired,
	}}
	for _, dependency := range info.Deps {
		c, err := part(compiled(dependency))
		if err != nil {
			return err
		}
		parts = append(parts, c)
	}
	needs := make([]string, 0, len(parts))
	for _, p := range parts {
		needs = append(needs, p.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = serial(hash)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: made, Component: &root,
		Tools: &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: tool}}},
	}
	bom.Components = &parts
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: root.BOMRef, Dependencies: &needs}}
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
}

// part is a module of a binary. go.sum has the hash of its files as "h1:" and base64.
func part(m *debug.Module) (cyclonedx.Component, error) {
	url := "pkg:golang/" + m.Path + "@" + m.Version
	c := cyclonedx.Component{
		BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url, Scope: cyclonedx.ScopeRequired,
	}
	if m.Sum == "" {
		return c, nil
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil || len(sum) != sha256.Size || !strings.HasPrefix(m.Sum, "h1:") {
		return c, fmt.Errorf("module %s has the sum %q, want h1: and 32 bytes in base64", url, m.Sum)
	}
	c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	return c, nil
}

// settings are the flags and the system that Go recorded.
func settings(info *debug.BuildInfo) *[]cyclonedx.Property {
	properties := make([]cyclonedx.Property, 0, 1+len(info.Settings))
	properties = append(properties, cyclonedx.Property{Name: "go:package", Value: info.Path})
	for _, s := range info.Settings {
		properties = append(properties, cyclonedx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return &properties
}

// serial is the UUID of a document: one for each binary, made of its hash (RFC 9562, version 8).
func serial(hash [sha256.Size]byte) string {
	id := hash
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
