package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// Hash is the hash of an apply configuration, over its JSON with sorted keys and without
// AppliedAnnotation: 32 hex digits. Every function of this package that makes an apply
// configuration adds its hash.
func Hash(configuration any) string {
	tree := treeOf(configuration)
	removeAnnotation(tree, AppliedAnnotation)
	return digest(tree)
}

// TemplateHash is the hash of a pod template without TemplateAnnotation: 32 hex digits.
func TemplateHash(template *corev1ac.PodTemplateSpecApplyConfiguration) string {
	tree := treeOf(template)
	removeAnnotation(tree, TemplateAnnotation)
	return digest(tree)
}

// TemplateOf is the TemplateAnnotation of the pods that a StatefulSet makes. A pod with another
// one, or none, is outdated.
func TemplateOf(s *appsv1ac.StatefulSetApplyConfiguration) string {
	return s.Spec.Template.Annotations[TemplateAnnotation]
}

// Current says whether a live object has all of the configuration, the hash included, so that the
// operator need not apply it. Additions of others (defaults, status, annotations of their own) do
// not matter. A part that the configuration no longer has does matter, such as an owner: the hash
// of the last apply was another one. A client that applies reads the answer into the configuration,
// so call Current before.
func Current(live metav1.Object, configuration any) bool {
	return within(treeOf(configuration), treeOf(live), "")
}

// treeOf is any object as encoding/json reads it back. Apply configurations and API types are made
// for JSON, so that an error is a mistake of this program. A tree of an error hashes like no
// object, and no configuration is within it.
func treeOf(object any) any {
	raw, err := json.Marshal(object)
	if err != nil {
		return fmt.Sprintf("no JSON: %v", err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return fmt.Sprintf("no JSON: %v", err)
	}
	return tree
}

func digest(tree any) string {
	raw, err := json.Marshal(tree) // the keys of a map come out sorted
	if err != nil {
		raw = fmt.Append(nil, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// removeAnnotation removes an annotation, and the map of annotations if it is empty then.
func removeAnnotation(tree any, name string) {
	object, _ := tree.(map[string]any)
	meta, _ := object["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	delete(annotations, name)
	if len(annotations) == 0 {
		delete(meta, "annotations")
	}
}

// atomic are the lists that must equal the wanted ones: an element that somebody adds changes the
// meaning of the others. They are atomic in the API too, so that an apply removes the addition.
var atomic = map[string]bool{
	"args": true, "command": true, "drop": true, "ingress": true, "egress": true, "from": true, "to": true, "policyTypes": true,
}

// within says whether live has all parts of wanted. The elements of lists that are not atomic may
// come in any order: they are sets by a key.
func within(wanted, live any, field string) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		live, _ := live.(map[string]any)
		for key, value := range wanted {
			// The API server does not show kind and version within lists, nor do typed clients at
			// all.
			if field == "" && (key == "kind" || key == "apiVersion") {
				continue
			}
			if !within(value, live[key], key) {
				return false
			}
		}
		return true
	case []any:
		live, _ := live.([]any)
		if atomic[field] {
			return slices.EqualFunc(wanted, live, func(w, l any) bool { return within(w, l, field) })
		}
		for _, element := range wanted {
			found := false
			for i := 0; i < len(live) && !found; i++ {
				found = within(element, live[i], field)
			}
			if !found {
				return false
			}
		}
		return true
	}
	// A missing field has its zero value: the API's types leave those out.
	return reflect.DeepEqual(wanted, live) || live == nil && reflect.ValueOf(wanted).IsZero()
}
