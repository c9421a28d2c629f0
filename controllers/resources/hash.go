package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

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
