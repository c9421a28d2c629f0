package resources

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Drift is what of a live object is not as the operator applied it. A path names list elements by
// their keys: "spec.ports[http]".
type Drift struct {
	// Outdated says that the object was applied from another configuration, or never: its hash is
	// another one.
	Outdated bool
	// Changed are wanted fields that have another value, or none.
	Changed []Difference
	// Added are fields and list elements that others added, that no table leaves to them, and that
	// an apply may not be able to remove: they have another owner.
	Added []Difference
	// Rewritten are the paths of fields that the API server or its admission changed or added when
	// the operator wrote the object. To write them again would change nothing.
	Rewritten []string
}

// Difference is a field that drifted.
type Difference struct {
	Path string
	// By is the field manager that wrote it last, such as "kubectl-edit"; empty if that is not
	// known.
	By string
}

// Current says that there is nothing to write.
func (d Drift) Current() bool { return !d.Outdated && len(d.Changed)+len(d.Added) == 0 }

// String names the differences and who made them, for messages.
func (d Drift) String() string {
	const most = 4
	var texts []string
	for _, difference := range slices.Concat(d.Changed, d.Added) {
		text := difference.Path
		if difference.By != "" {
			text += " (by " + difference.By + ")"
		}
		texts = append(texts, text)
	}
	if more := len(texts) - most; more > 0 {
		texts = append(texts[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

// Compare compares a live object with the configuration of it. A client that applies reads the
// answer into the configuration, so call Compare before.
//
// Three things look like drift and are not. Fields that a table leaves to others (see [leftTo]) are
// theirs. Defaults of the API server are no additions. And admission may rewrite an object whenever
// it is written: the managed fields tell that from a change by somebody else, because admission
// takes no ownership. A field that the operator still owns has the value that its own write led to.
func Compare(live metav1.Object, configuration any) Drift {
	drift, _ := compare(live, configuration)
	return drift
}

// Current says whether a live object needs no write, see Compare.
func Current(live metav1.Object, configuration any) bool {
	return Compare(live, configuration).Current()
}

// Repair is a JSON merge patch that makes a live object as it is wanted, additions removed. An
// apply cannot do that: it leaves list elements and fields that somebody else owns. The patch is
// refused if the object is not the live version any more. It contains whole lists, so live must
// have every field that the API server knows: it is an unstructured object, not a typed one.
func Repair(live metav1.Object, configuration any) ([]byte, error) {
	_, restored := compare(live, configuration)
	patch, _ := mergePatch(treeOf(live), restored).(map[string]any)
	if patch == nil {
		patch = map[string]any{}
	}
	metadata, _ := patch["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	metadata["resourceVersion"] = live.GetResourceVersion()
	raw, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("repair of %s: %w", live.GetName(), err)
	}
	return raw, nil
}

// compare returns the differences, and the tree of the live object without them.
func compare(live metav1.Object, configuration any) (Drift, any) {
	wanted, _ := treeOf(configuration).(map[string]any)
	// The API server does not show kind and version within lists, nor do typed clients at all.
	wanted = maps.Clone(wanted)
	kind, _ := wanted["kind"].(string)
	delete(wanted, "kind")
	delete(wanted, "apiVersion")
	c := comparison{table: leftTo[kind], owners: ownersOf(live.GetManagedFields())}
	tree := treeOf(live)
	c.drift.Outdated = hashOf(tree) != hashOf(wanted)
	restored := c.restore(wanted, tree, place{})
	return c.drift, restored
}

// hashOf is the hash that an object is stamped with.
func hashOf(tree any) string {
	object, _ := tree.(map[string]any)
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	hash, _ := annotations[AppliedAnnotation].(string)
	return hash
}

// comparison collects the differences of one object.
type comparison struct {
	table  table
	owners owners
	drift  Drift
}

// place is where a value is: for people, for the tables (without keys of list elements), and for
// managed fields.
type place struct {
	shown, rule string
	steps       []string
}

func (p place) field(name string) place {
	join := func(path string) string { return strings.TrimPrefix(path+"."+name, ".") }
	return place{join(p.shown), join(p.rule), append(slices.Clone(p.steps), "f:"+name)}
}

func (p place) element(shown, step string) place {
	return place{p.shown + "[" + shown + "]", p.rule + "[]", append(slices.Clone(p.steps), step)}
}

// last is the name of the field.
func (p place) last() string { return p.rule[strings.LastIndexByte(p.rule, '.')+1:] }

// restore takes note of the differences at a place, and returns the live value without them.
func (c *comparison) restore(wanted, live any, at place) any {
	if isEmpty(wanted) && isEmpty(live) {
		return live
	}
	switch wanted := wanted.(type) {
	case map[string]any:
		if parts, ok := live.(map[string]any); ok || live == nil {
			return c.restoreMap(wanted, parts, at)
		}
	case []any:
		elements, ok := live.([]any)
		if keys := keysOf(at.last(), wanted, elements); keys != nil && (ok || live == nil) {
			return c.restoreList(keys, wanted, elements, at)
		}
		if ok && len(wanted) == len(elements) && c.sameElements(wanted, elements, at) {
			return live
		}
	default:
		if reflect.DeepEqual(wanted, live) {
			return live
		}
		// The API's types leave an empty text out.
		if live == nil && wanted == "" {
			return live
		}
	}
	if !c.drift.Outdated && c.owners.mine(at.steps) != foreign && !alwaysRestored[at.rule] {
		c.rewritten(at)
		return live
	}
	c.drift.Changed = append(c.drift.Changed, Difference{at.shown, c.owners.other(at.steps)})
	return wanted
}

func (c *comparison) restoreMap(wanted, live map[string]any, at place) any {
	restored := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		value := c.restore(wanted[key], live[key], at.field(key))
		if value != nil {
			restored[key] = value
		}
	}
	for _, key := range slices.Sorted(maps.Keys(live)) {
		if _, ok := wanted[key]; ok {
			continue
		}
		if value, keep := c.restoreAdded(live[key], at.field(key)); keep {
			restored[key] = value
		}
	}
	return restored
}

// restoreList compares lists whose elements have keys, in the order of the live one.
func (c *comparison) restoreList(keys []string, wanted, live []any, at place) any {
	restored, met := []any{}, map[string]bool{}
	byKey := map[string]any{}
	for _, element := range wanted {
		_, step := keyOf(keys, element)
		byKey[step] = element
	}
	for _, element := range live {
		shown, step := keyOf(keys, element)
		there := at.element(shown, step)
		if want, ok := byKey[step]; ok && !met[step] {
			met[step] = true
			restored = append(restored, c.restore(want, element, there))
		} else if value, keep := c.addition(element, there); keep {
			restored = append(restored, value)
		}
	}
	for _, element := range wanted {
		if shown, step := keyOf(keys, element); !met[step] {
			if value := c.restore(element, nil, at.element(shown, step)); value != nil {
				restored = append(restored, value)
			}
		}
	}
	return restored
}

// restoreAdded is restore for a field that is not wanted. It goes into the parts of a field of
// which a table leaves some to others.
func (c *comparison) restoreAdded(live any, at place) (value any, keep bool) {
	switch live := live.(type) {
	case map[string]any:
		if c.table.divides(at.rule) {
			rest, _ := c.restoreMap(nil, live, at).(map[string]any)
			return rest, len(rest) > 0 || len(live) == 0
		}
	case []any:
		if keys := keysOf(at.last(), nil, live); keys != nil && !c.table.leaves(at.rule) {
			rest, _ := c.restoreList(keys, nil, live, at).([]any)
			return rest, len(rest) > 0 || len(live) == 0
		}
	}
	return c.addition(live, at)
}

// addition decides on a field or a list element that is not wanted.
func (c *comparison) addition(live any, at place) (value any, keep bool) {
	if c.table.leaves(at.rule) || isEmpty(live) || isDefault(at.rule, live) {
		return live, true
	}
	by := c.owners.other(at.steps)
	switch c.owners.mine(at.steps) {
	case applied:
		// An earlier configuration had it; an apply removes it.
		c.drift.Changed = append(c.drift.Changed, Difference{Path: at.shown})
		return nil, false
	case within:
		c.rewritten(at) // in a list or a map that is the operator's as a whole
		return live, true
	case foreign:
		if by == "" && c.owners.known() {
			c.rewritten(at) // nobody's: admission added it
			return live, true
		}
	}
	c.drift.Added = append(c.drift.Added, Difference{at.shown, by})
	return nil, false
}

func (c *comparison) rewritten(at place) { c.drift.Rewritten = append(c.drift.Rewritten, at.shown) }

// sameElements compares lists that the API treats as one value: elements in order, each equal but
// for defaults.
func (c *comparison) sameElements(wanted, live []any, at place) bool {
	for i := range wanted {
		if !same(wanted[i], live[i], at.element("", "")) {
			return false
		}
	}
	return true
}

// same says whether values are equal but for defaults.
func same(wanted, live any, at place) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		live, ok := live.(map[string]any)
		if !ok {
			return len(wanted) == 0 && live == nil
		}
		for key, value := range wanted {
			if !same(value, live[key], at.field(key)) {
				return false
			}
		}
		for key, value := range live {
			if _, ok := wanted[key]; !ok && !isEmpty(value) && !isDefault(at.field(key).rule, value) {
				return false
			}
		}
		return true
	case []any:
		live, ok := live.([]any)
		if !ok || len(wanted) != len(live) {
			return len(wanted) == 0 && len(live) == 0
		}
		for i := range wanted {
			if !same(wanted[i], live[i], at.element("", "")) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(wanted, live) || live == nil && wanted == ""
}

// isEmpty says whether a value is the same as none. 0 and false are not: where they are none, the
// API's types leave them out.
func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return false
}

// nameField is the field by which most lists are merged.
const nameField = "name"

// listKeys are the keys of the lists that the API server merges by key, by the name of the field.
// All other lists are one value each.
var listKeys = map[string][][]string{
	"containers": {{nameField}}, "initContainers": {{nameField}}, "ephemeralContainers": {{nameField}},
	"env": {{nameField}}, "volumes": {{nameField}}, "imagePullSecrets": {{nameField}},
	"resourceClaims": {{nameField}}, "secrets": {{nameField}},
	"volumeMounts": {{"mountPath"}}, "volumeDevices": {{"devicePath"}}, "hostAliases": {{"ip"}},
	"topologySpreadConstraints": {{"topologyKey", "whenUnsatisfiable"}},
	"ports":                     {{"containerPort", "protocol"}, {"port", "protocol"}},
	"ownerReferences":           {{"uid"}},
}

// keysOf are the keys of a list's elements; nil if the list is one value. The ports of a
// NetworkPolicy are in such a list.
func keysOf(field string, lists ...[]any) []string {
	for _, keys := range listKeys[field] {
		fit, elements := true, 0
		for _, list := range lists {
			for _, element := range list {
				object, _ := element.(map[string]any)
				_, has := object[keys[0]]
				fit, elements = fit && has, elements+1
			}
		}
		if fit && elements > 0 {
			return keys
		}
	}
	return nil
}

// keyOf is the key of a list element, for people and for managed fields.
func keyOf(keys []string, element any) (shown, step string) {
	object, _ := element.(map[string]any)
	key := map[string]any{}
	for _, name := range keys {
		value := object[name]
		if value == nil && name == "protocol" {
			value = "TCP"
		}
		key[name] = value
	}
	shown = fmt.Sprint(key[keys[0]])
	if name, ok := object[nameField].(string); ok {
		shown = name
	}
	raw, err := json.Marshal(key) // sorted, as the API server writes it
	if err != nil {
		raw = []byte(shown)
	}
	return shown, "k:" + string(raw)
}

// mergePatch is the JSON merge patch (RFC 7386) from one tree to another.
func mergePatch(from, to any) any {
	old, okOld := from.(map[string]any)
	now, okNow := to.(map[string]any)
	if !okOld || !okNow {
		return to
	}
	patch := map[string]any{}
	for key, value := range now {
		if before, ok := old[key]; !ok || !reflect.DeepEqual(before, value) {
			patch[key] = mergePatch(before, value)
		}
	}
	for key := range old {
		if _, ok := now[key]; !ok {
			patch[key] = nil
		}
	}
	return patch
}
