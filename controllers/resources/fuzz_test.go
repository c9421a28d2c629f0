package resources

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FuzzCurrent compares what the operator wants with whatever somebody made of an object: it is current only with the hash of what is
// wanted, and it is once all that is wanted has been put into it.
func FuzzCurrent(f *testing.F) {
	wanted := GenesisConfigMap(newNetwork("a"), "{}")
	whole, err := json.Marshal(wanted)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"metadata":{"annotations":null,"labels":[],"ownerReferences":{"a":1}},"data":"x"}`))
	f.Add([]byte(`{"metadata":{"ownerReferences":[null,[],{}],"annotations":{"a":7}},"extra":[[{}]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		live := &unstructured.Unstructured{}
		if json.Unmarshal(raw, &live.Object) != nil || live.Object == nil {
			return
		}
		tree, _ := treeOf(live).(map[string]any)
		if Current(live, wanted) {
			metadata, _ := tree["metadata"].(map[string]any)
			annotations, _ := metadata["annotations"].(map[string]any)
			if annotations[AppliedAnnotation] != wanted.Annotations[AppliedAnnotation] {
				t.Errorf("%s is current without the hash", raw)
			}
		}
		put := overlay(tree, treeOf(wanted))
		if live.Object, _ = put.(map[string]any); !Current(live, wanted) {
			t.Errorf("%s is not current", raw)
		}
	})
}

// overlay puts what is wanted into what is there.
func overlay(there, wanted any) any {
	switch wanted := wanted.(type) {
	case map[string]any:
		out := make(map[string]any)
		if there, ok := there.(map[string]any); ok {
			out = there
		}
		for key, value := range wanted {
			out[key] = overlay(out[key], value)
		}
		return out
	case []any:
		there, _ := there.([]any)
		return append(there, wanted...)
	}
	return wanted
}
