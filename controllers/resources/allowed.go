package resources

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/diseq/diseq/api/v1alpha1"
)

// Allowed is what the administrator of the operator lets the specs of networks ask for. Without it
// the right to edit a network would be the right to run any program with the keys of its
// validators, and to address other controllers of the cluster in the operator's name.
type Allowed struct {
	// NodeImages and SidecarImages match the images of the node and of the containers beside it;
	// nil matches every image.
	NodeImages, SidecarImages *regexp.Regexp
	// Annotations and PodLabels are the keys that a spec may use: a key, a prefix such as
	// example.com/*, or * for every key. Annotations without a prefix are private to their users,
	// so that no controller acts on them, and are always allowed.
	Annotations, PodLabels []string
}

// ImagesOf matches the images of the repository of an image, with any tag or digest. These have no
// slash: diseq:5000/evil is an image of a registry diseq.
func ImagesOf(image string) string {
	repository, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
		repository = repository[:colon]
	}
	return regexp.QuoteMeta(repository) + "(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@[a-z0-9]+:[0-9a-f]+)?"
}

// Images compiles an expression that has to match an image as a whole.
func Images(expression string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(expression); err != nil { // which could close the group below
		return nil, err
	}
	return regexp.Compile("^(?:" + expression + ")$")
}

// ValidKey says whether an element of Annotations or PodLabels can match anything: a key,
// a prefix such as example.com/*, or *.
func ValidKey(key string) bool {
	return key == "*" || validKey.MatchString(key)
}

var validKey = regexp.MustCompile(`^(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?(?:\*|[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)$`)

// Check refuses a spec that asks for more. A nil Allowed allows everything. The operator's own
// image of nodes needs no permission.
func (a *Allowed) Check(network *v1alpha1.DiseqNetwork) error {
	if a == nil {
		return nil
	}
	spec := network.Spec
	if spec.Image != "" && !matchesImage(a.NodeImages, spec.Image) {
		return refusedImage("spec.image", spec.Image, a.NodeImages, "--allowed-node-images")
	}
	for _, list := range []struct {
		field      string
		containers []v1alpha1.Container
	}{{"initContainers", spec.PodTemplate.InitContainers}, {"containers", spec.PodTemplate.Containers}} {
		for _, c := range list.containers {
			if !matchesImage(a.SidecarImages, c.Image) {
				return refusedImage("spec.podTemplate."+list.field+"."+c.Name+".image", c.Image, a.SidecarImages, "--allowed-sidecar-images")
			}
		}
	}
	for _, given := range []struct {
		field string
		keys  map[string]string
	}{
		{"spec.podTemplate.annotations", spec.PodTemplate.Annotations},
		{"spec.podTemplate.serviceAccountAnnotations", spec.PodTemplate.ServiceAccountAnnotations},
		{"spec.service.annotations", spec.Service.Annotations},
	} {
		for _, key := range slices.Sorted(maps.Keys(given.keys)) {
			if strings.Contains(key, "/") && !matchesKey(a.Annotations, key) {
				return refusedKey(given.field, key, a.Annotations, "--allowed-annotations")
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(spec.PodTemplate.Labels)) {
		if !matchesKey(a.PodLabels, key) {
			return refusedKey("spec.podTemplate.labels", key, a.PodLabels, "--allowed-pod-labels")
		}
	}
	return nil
}

func matchesImage(allowed *regexp.Regexp, image string) bool {
	return allowed == nil || allowed.MatchString(image)
}

func matchesKey(allowed []string, key string) bool {
	return slices.ContainsFunc(allowed, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return pattern == key || open && strings.HasPrefix(key, prefix)
	})
}

func refusedImage(field, image string, allowed *regexp.Regexp, flag string) error {
	return fmt.Errorf("%s is %s: this operator runs images that match %s alone. Choose one of those, or ask the operator's administrator "+
		"to allow this one with %s", field, image, allowed, flag)
}

func refusedKey(field, key string, allowed []string, flag string) error {
	list := "none"
	if len(allowed) > 0 {
		list = strings.Join(allowed, ", ")
	}
	return fmt.Errorf("%s has the key %s, and this operator allows: %s. Leave it out, or ask the operator's administrator to allow it with %s",
		field, key, list, flag)
}
