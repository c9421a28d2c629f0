package resources

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// owners are the managed fields of an object: who wrote which field last. The API server keeps them
// up to date before admission runs. So whoever changes a field becomes its owner, and takes it away
// from the others; a field that admission changed stays with its owner, and one that admission
// added has none.
type owners struct {
	// operator has what the operator applied, and what it patched. others are in no order.
	apply, patch []map[string]any
	others       []otherOwner
}

type otherOwner struct {
	name   string
	fields map[string]any
}

// ownersOf reads managed fields. Those of the status do not matter here.
func ownersOf(entries []metav1.ManagedFieldsEntry) owners {
	var o owners
	for _, e := range entries {
		if e.FieldsV1 == nil || e.Subresource == "status" {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		switch {
		case e.Manager != FieldOwner:
			o.others = append(o.others, otherOwner{e.Manager, fields})
		case e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "":
			o.apply = append(o.apply, fields)
		default:
			o.patch = append(o.patch, fields)
		}
	}
	return o
}

// known says whether the operator owns anything of the object, so that it matters what it does not
// own. It owns nothing of an object that somebody restored from a backup.
func (o owners) known() bool { return len(o.apply)+len(o.patch) > 0 }

// ownership says how the operator owns a place.
type ownership int

const (
	// foreign: not at all.
	foreign ownership = iota
	// applied, patched: by itself, or a part of it.
	applied
	patched
	// within: it owns a list or a map around the place as one value.
	within
)

// mine says how the operator owns a place.
func (o owners) mine(steps []string) ownership {
	for _, fields := range o.apply {
		if how := find(fields, steps); how != foreign {
			return how
		}
	}
	for _, fields := range o.patch {
		switch find(fields, steps) {
		case applied:
			return patched
		case within:
			return within
		}
	}
	return foreign
}

// other is another owner of a place, of a part of it or of the value around it; empty if there is
// none.
func (o owners) other(steps []string) string {
	for _, other := range o.others {
		if find(other.fields, steps) != foreign {
			return other.name
		}
	}
	return ""
}

// find says how fields contain a place: applied or within; foreign if they do not. A field without
// parts is one value.
func find(fields map[string]any, steps []string) ownership {
	for _, step := range steps {
		if len(fields) == 0 {
			return within
		}
		next, ok := fields[step]
		if !ok {
			return foreign
		}
		fields, _ = next.(map[string]any)
	}
	return applied
}
