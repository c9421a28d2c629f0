package resources

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// An object that somebody edited, in whatever way, is current only with the hash of what is wanted,
// and once all that is wanted was put into it.
//
// Promise 37.
func TestAnEditedObjectIsCurrentOnlyWithAllThatIsWanted(t *testing.T) {
	wanted := GenesisConfigMap(newNetwork("a"), "{}")
	whole, err := json.Marshal(wanted)
	if err != nil {
		t.Fatal(err)
	}
	still := 0
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		live := &unstructured.Unstructured{}
		if err := json.Unmarshal(whole, &live.Object); err != nil {
			t.Fatal(err)
		}
		edited, _ := edit(rng, live.Object).(map[string]any)
		live.Object = edited
		if Current(live, wanted) {
			still++
			metadata, _ := edited["metadata"].(map[string]any)
			annotations, _ := metadata["annotations"].(map[string]any)
			if annotations[AppliedAnnotation] != wanted.Annotations[AppliedAnnotation] {
				t.Fatalf("seed %d: %v is current without the hash", seed, edited)
			}
		}
		_, restored := compare(live, wanted)
		if live.Object, _ = restored.(map[string]any); !Current(live, wanted) {
			t.Fatalf("seed %d: %v is not current: %+v", seed, live.Object, Compare(live, wanted))
		}
	}
	if still == 0 || still == 2000 {
		t.Errorf("%d of 2000 edited objects are current: the edits show nothing", still)
	}
}

// edit changes one in eight of the things in a tree into something else, and adds some.
func edit(rng *rand.Rand, tree any) any {
	if rng.IntN(8) == 0 {
		return []any{nil, "x", 7.0, true, []any{}, map[string]any{}, []any{nil, []any{}}}[rng.IntN(7)]
	}
	switch tree := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(tree)) {
			tree[key] = edit(rng, tree[key])
		}
		if rng.IntN(2) == 0 {
			tree["more"] = edit(rng, "more")
		}
		return tree
	case []any:
		for i := range tree {
			tree[i] = edit(rng, tree[i])
		}
		return append(tree, edit(rng, "more"))
	}
	return tree
}
