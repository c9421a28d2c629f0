package main

import (
	"encoding/json"
	"regexp"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/controllers/resources"
)

// leftOut takes the place of what may be secret.
const leftOut = "(left out)"

// lastApplied is the annotation in which kubectl apply keeps a copy of an object, values included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// plain is an object or a list as YAML, without the values of environment variables, without the
// arguments of the user's containers, and without the fields that only programs read.
func plain(o runtime.Object) ([]byte, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var content any
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, err
	}
	conceal(content)
	return yaml.Marshal(content)
}

// conceal changes a JSON value in its place.
func conceal(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			conceal(e)
		}
	case map[string]any:
		delete(v, "managedFields")
		if notes, ok := v["annotations"].(map[string]any); ok {
			delete(notes, lastApplied)
		}
		concealVariables(v["env"])
		for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
			concealArguments(v[list])
		}
		for _, e := range v {
			conceal(e)
		}
	}
}

// concealVariables leaves out the values of a list of environment variables; references to where a
// value comes from stay.
func concealVariables(list any) {
	variables, _ := list.([]any)
	for _, e := range variables {
		if variable, ok := e.(map[string]any); ok && variable["value"] != nil {
			variable["value"] = leftOut
		}
	}
}

// concealArguments leaves out the command lines of a list of containers, but for the node's.
func concealArguments(list any) {
	containers, _ := list.([]any)
	for _, e := range containers {
		c, ok := e.(map[string]any)
		if !ok || c["name"] == resources.Container {
			continue
		}
		for _, field := range []string{"command", "args"} {
			if c[field] != nil {
				c[field] = []any{leftOut}
			}
		}
	}
}

// secretTexts are what keys and tokens look like in a text: a private key in PEM, a JSON Web Token,
// and the credential of a header.
var secretTexts = regexp.MustCompile(
	`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)` +
		`|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*` +
		`|(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}`)

// withoutSecrets is a text without what looks like a secret. It is the last net: nothing that is
// collected should have one.
func withoutSecrets(text []byte) []byte {
	return secretTexts.ReplaceAll(text, []byte(leftOut))
}
