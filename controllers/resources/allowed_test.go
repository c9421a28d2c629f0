package resources

import (
	"regexp"
	"strings"
	"testing"

	"github.com/diseq/diseq/api/v1alpha1"
)

// defaultAllowed is what an operator allows whose flags leave it to the default.
func defaultAllowed(t *testing.T) *Allowed {
	t.Helper()
	images := must[*regexp.Regexp](t)(Images(ImagesOf("registry.example/diseq:v1")))
	return &Allowed{NodeImages: images, SidecarImages: images}
}

// The right to edit a network is not the right to run a program with the keys of its validators.
//
// Promise 88.
func TestASpecAsksForNoMoreThanTheAdministratorAllows(t *testing.T) {
	wide := defaultAllowed(t)
	wide.SidecarImages = must[*regexp.Regexp](t)(Images(`proxy:v1|registry\.example/logs@sha256:.*`))
	wide.Annotations, wide.PodLabels = []string{"example.com/*", "sidecar.istio.io/inject"}, []string{"team"}
	sidecar := func(image string) func(*v1alpha1.DiseqNetworkSpec) {
		return func(s *v1alpha1.DiseqNetworkSpec) {
			s.PodTemplate.InitContainers = []v1alpha1.Container{{Name: "proxy", Image: image}}
		}
	}
	image := func(image string) func(*v1alpha1.DiseqNetworkSpec) {
		return func(s *v1alpha1.DiseqNetworkSpec) { s.Image = image }
	}
	annotation := func(key string) func(*v1alpha1.DiseqNetworkSpec) {
		return func(s *v1alpha1.DiseqNetworkSpec) { s.PodTemplate.Annotations = map[string]string{key: "x"} }
	}
	for _, c := range []struct {
		name    string
		allowed *Allowed
		change  func(*v1alpha1.DiseqNetworkSpec)
		// refused is a part of the message; empty if the spec is allowed.
		refused string
	}{
		{"nothing asked for", defaultAllowed(t), func(*v1alpha1.DiseqNetworkSpec) {}, ""},
		{"another tag", defaultAllowed(t), image("registry.example/diseq:v2"), ""},
		{"a digest", defaultAllowed(t), image("registry.example/diseq@sha256:00"), ""},
		{"no tag", defaultAllowed(t), image("registry.example/diseq"), ""},
		{"another repository", defaultAllowed(t), image("registry.example/evil:v1"), "spec.image is registry.example/evil:v1"},
		{"a name that begins alike", defaultAllowed(t), image("registry.example/diseq-evil:v1"), "--allowed-node-images"},
		{"a repository below it", defaultAllowed(t), image("registry.example/diseq/evil:v1"), "--allowed-node-images"},
		{"a registry of that name", &Allowed{NodeImages: must[*regexp.Regexp](t)(Images(ImagesOf("diseq:dev")))}, image("diseq:5000/evil"), "spec.image is diseq:5000/evil"},
		{"a name that ends alike", defaultAllowed(t), image("evil/registry.example/diseq:v1"), "--allowed-node-images"},
		{"a dot is no wildcard", defaultAllowed(t), image("registryXexample/diseq:v1"), "--allowed-node-images"},
		{"a sidecar", defaultAllowed(t), sidecar("proxy:v1"), "spec.podTemplate.initContainers.proxy.image"},
		{"the node's image as a sidecar", defaultAllowed(t), sidecar("registry.example/diseq:v1"), ""},
		{"a sidecar that is allowed", wide, sidecar("proxy:v1"), ""},
		{"an alternative matches as a whole", wide, sidecar("proxy:v1-evil"), "--allowed-sidecar-images"},
		{"a container", defaultAllowed(t), func(s *v1alpha1.DiseqNetworkSpec) {
			s.PodTemplate.Containers = []v1alpha1.Container{{Name: "logs", Image: "logs:v1"}}
		}, "spec.podTemplate.containers.logs.image"},
		{"an annotation of a user", defaultAllowed(t), annotation("team"), ""},
		{"an annotation for a controller", defaultAllowed(t), annotation("k8s.v1.cni.cncf.io/networks"), "allows: none"},
		{"one that is allowed", wide, annotation("sidecar.istio.io/inject"), ""},
		{"of a prefix that is allowed", wide, annotation("example.com/x"), ""},
		{"of a longer prefix", wide, annotation("example.com.evil/x"), "example.com/*, sidecar.istio.io/inject"},
		{"an annotation of the account", wide, func(s *v1alpha1.DiseqNetworkSpec) {
			s.PodTemplate.ServiceAccountAnnotations = map[string]string{"iam.amazonaws.com/role": "admin"}
		}, "spec.podTemplate.serviceAccountAnnotations has the key iam.amazonaws.com/role"},
		{"an annotation of the Service", wide, func(s *v1alpha1.DiseqNetworkSpec) {
			s.Service.Annotations = map[string]string{"external-dns.alpha.kubernetes.io/hostname": "bank.example"}
		}, "spec.service.annotations has the key external-dns.alpha.kubernetes.io/hostname"},
		{"a label by which another Service selects", defaultAllowed(t), func(s *v1alpha1.DiseqNetworkSpec) {
			s.PodTemplate.Labels = map[string]string{"app": "bank"}
		}, "spec.podTemplate.labels has the key app"},
		{"a label that is allowed", wide, func(s *v1alpha1.DiseqNetworkSpec) {
			s.PodTemplate.Labels = map[string]string{"team": "bank"}
		}, ""},
		{"no limits", nil, image("evil:v1"), ""},
		{"limits that name nothing", &Allowed{Annotations: []string{"*"}, PodLabels: []string{"*"}}, func(s *v1alpha1.DiseqNetworkSpec) {
			s.Image, s.PodTemplate.Labels = "any:v1", map[string]string{"a": "b"}
			s.PodTemplate.Annotations = map[string]string{"example.com/a": "b"}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			network := newNetwork("demo")
			c.change(&network.Spec)
			err := c.allowed.Check(network)
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("the error is %v, want one with %q", err, c.refused)
			}
		})
	}
}

func TestTheRepositoryOfAnImage(t *testing.T) {
	for image, want := range map[string]string{
		"diseq": "diseq", "diseq:dev": "diseq", "localhost:5000/a/diseq": "localhost:5000/a/diseq",
		"localhost:5000/a/diseq:v1": "localhost:5000/a/diseq", "a/diseq:v1@sha256:00": "a/diseq",
	} {
		if got := ImagesOf(image); got != want+"(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@[a-z0-9]+:[0-9a-f]+)?" {
			t.Errorf("%s: %s, want that of %s", image, got, want)
		}
	}
	if _, err := Images("a)|(b"); err == nil {
		t.Error("an expression that is none by itself is taken")
	}
}

func TestKeysThatCanMatch(t *testing.T) {
	for key, want := range map[string]bool{
		"*": true, "team": true, "example.com/*": true, "example.com/team": true, "a.b-c/D_e.f": true,
		"": false, "example.com*": false, "*/team": false, "a b": false, "example.com/te*": false, "/team": false, "a/b/c": false,
	} {
		if ValidKey(key) != want {
			t.Errorf("%q: %t, want %t", key, !want, want)
		}
	}
}
