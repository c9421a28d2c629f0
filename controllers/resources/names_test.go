package resources

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/diseq/diseq/api/v1alpha1"
)

// longest is a network with the longest name in the namespace with the longest one, and highest the
// serial number with the most digits: the API server takes no more of each.
func longest() *v1alpha1.DiseqNetwork {
	network := newNetwork(strings.Repeat("n", 40))
	network.Namespace = strings.Repeat("s", 63)
	return network
}

const highest = 999_999_999

func TestNamesAndLabelsAreValidForTheLongestName(t *testing.T) {
	network := longest()
	objects := allObjects(t, network, []Member{{Serial: highest, Validator: newMembers(1)[0].Validator}})
	if len(objects) != 16 {
		t.Errorf("%d objects", len(objects))
	}
	for _, o := range objects {
		var problems []string
		if o.GetKind() == "Service" {
			problems = validation.IsDNS1035Label(o.GetName())
		} else {
			// 63 characters: some of the names become label values
			problems = validation.IsDNS1123Label(o.GetName())
		}
		for _, set := range []map[string]string{o.GetLabels(), o.GetAnnotations()} {
			for key := range set {
				problems = append(problems, validation.IsQualifiedName(key)...)
			}
		}
		for _, value := range o.GetLabels() {
			problems = append(problems, validation.IsValidLabelValue(value)...)
		}
		if o.GetNamespace() != network.Namespace || o.GetLabels()[NetworkLabel] != network.Name || len(problems) > 0 {
			t.Errorf("%v in %s with labels %v: %v", o, o.GetNamespace(), o.GetLabels(), problems)
		}
	}
	validator := ValidatorName(network.Name, highest)
	// The pod's name, and the label that its StatefulSet gives it: a hash of ten digits behind its
	// own name.
	for _, value := range []string{PodName(validator), validator + "-0123456789"} {
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			t.Errorf("%s: %v", value, problems)
		}
	}
	for _, value := range statefulSet(t, network).Spec.Template.Labels {
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			t.Errorf("%s: %v", value, problems)
		}
	}
}

// Every function of names.go that makes a name is here, so that none is forgotten.
func TestEveryNameOfTheLongestNetworkIsAName(t *testing.T) {
	network := longest()
	validator := ValidatorName(network.Name, highest)
	made := map[string]string{
		"ValidatorName": validator, "PodName": PodName(validator), "GenesisName": GenesisName(network.Name),
		"ConfigName": ConfigName(network.Name), "PeersName": PeersName(network.Name), "ClientsName": ClientsName(network.Name),
		"AccessName": AccessName(network.Name), "BudgetName": BudgetName(network.Name), "MonitorName": MonitorName(network.Name),
		"PeerAddress": PeerAddress(network.Name, network.Namespace, validator), "ChainID": ChainID(network), "Selector": Selector(network.Name),
	}
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || !f.Name.IsExported() || len(f.Type.Results.List) != 1 {
			continue
		}
		if result, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && result.Name == "string" && made[f.Name.Name] == "" {
			t.Errorf("%s makes a name that is not tried here", f.Name.Name)
		}
	}
	for function, name := range made {
		switch function {
		case "PeerAddress":
			host, _, err := net.SplitHostPort(name)
			if err != nil {
				t.Fatal(err)
			}
			// A resolver also tries the name with the search domains of the pod behind it, and the
			// longest of those begins with the namespace.
			for _, tried := range []string{host, host + ".cluster.local", host + "." + network.Namespace + ".svc.cluster.local"} {
				if problems := validation.IsDNS1123Subdomain(tried); len(problems) > 0 || len(tried) > 253 {
					t.Errorf("%s of %d characters: %v", tried, len(tried), problems)
				}
			}
			for label := range strings.SplitSeq(host, ".") {
				if problems := validation.IsDNS1123Label(label); len(problems) > 0 {
					t.Errorf("%s in %s: %v", label, host, problems)
				}
			}
		case "ChainID":
			members := []Member{{Serial: highest, Validator: newMembers(1)[0].Validator}}
			if _, err := Genesis(network, name, time.UnixMilli(1), members); err != nil {
				t.Errorf("no chain has the id %s and the validator %s: %v", name, validator, err)
			}
		case "Selector":
			if _, err := labels.Parse(name); err != nil {
				t.Error(err)
			}
		default:
			if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
				t.Errorf("%s: %s: %v", function, name, problems)
			}
		}
	}
}

func TestSerialNumbersAreReadBackFromNames(t *testing.T) {
	for _, serial := range []int{0, 1, 10, 9999, highest} {
		if got, ok := SerialOf("a-v1", ValidatorName("a-v1", serial)); !ok || got != serial {
			t.Errorf("%d reads back as %d, %v", serial, got, ok)
		}
	}
	for _, name := range []string{"", "a", "a-v", "a-v01", "a-v+1", "a-v-1", "a-v1x", "b-v1", "a-b-v1", "a-v1-v0", "a-v1000000000", "a-v99999999999999999999"} {
		if serial, ok := SerialOf("a", name); ok {
			t.Errorf("%q has serial number %d of a", name, serial)
		}
	}
}

func TestNetworksDoNotTouchEachOthersObjects(t *testing.T) {
	names := []string{"a", "a-v0", "a-v1", "a-v0-v0", "b", "a-genesis", "a-config", "a-default"}
	owners := map[string]string{}
	for _, name := range names {
		for _, o := range allObjects(t, newNetwork(name), newMembers(3)) {
			if other, ok := owners[o.String()]; ok {
				t.Errorf("networks %s and %s both have %v", other, name, o)
			}
			owners[o.String()] = name
		}
	}
	pods := map[string][]labels.Set{}
	for _, name := range names {
		for serial := range 2 {
			pods[name] = append(pods[name], podLabels(newNetwork(name), ValidatorName(name, serial)))
		}
	}
	for _, name := range names {
		text, err := labels.Parse(Selector(name))
		if err != nil {
			t.Fatal(err)
		}
		of := func(set map[string]string) labels.Selector { return labels.SelectorFromSet(set) }
		for _, other := range names {
			for serial, pod := range pods[other] {
				mine := name == other
				for _, selector := range []labels.Selector{of(NetworkSelector(name)), of(ValidatorsSelector(name)), text} {
					if selector.Matches(pod) != mine {
						t.Errorf("%s of %s and pod %d of %s: %v", selector, name, serial, other, !mine)
					}
				}
				one := of(ValidatorSelector(name, ValidatorName(name, 0)))
				if one.Matches(pod) != (mine && serial == 0) {
					t.Errorf("%s and pod %d of %s: %v", one, serial, other, one.Matches(pod))
				}
			}
		}
	}
}

func TestEverySelectorNamesTheNetwork(t *testing.T) {
	network := newNetwork("demo")
	for _, o := range allObjects(t, network, newMembers(1)) {
		var selector map[string]string
		switch o.GetKind() {
		case "Service":
			selector, _, _ = unstructured.NestedStringMap(o.Object, "spec", "selector")
		case "StatefulSet", "PodDisruptionBudget", "PodMonitor":
			selector, _, _ = unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
		case "NetworkPolicy":
			selector, _, _ = unstructured.NestedStringMap(o.Object, "spec", "podSelector", "matchLabels")
		default:
			continue
		}
		if selector[NetworkLabel] != "demo" {
			t.Errorf("%v selects %v", o, selector)
		}
		if pod := labels.Set(podLabels(network, "demo-v0")); !labels.SelectorFromSet(selector).Matches(pod) {
			t.Errorf("%v selects %v, which no pod has", o, selector)
		}
	}
}

// Every object that is made for a network has a name by which the operator's cache keeps it.
func TestEveryObjectOfANetworkIsNamed(t *testing.T) {
	for _, network := range []string{"demo", "a-v1", "v0"} {
		for _, o := range allObjects(t, newNetwork(network), newMembers(12)) {
			if !Named(network, o.GetName()) {
				t.Errorf("%s of %s is not named", o, network)
			}
			if Named("other", o.GetName()) {
				t.Errorf("%s is an object of network other, too", o)
			}
		}
	}
	for _, pod := range []string{"demo-v0-0", "demo-v11-0"} {
		if !Named("demo", pod) {
			t.Errorf("pod %s is not named", pod)
		}
	}
	for _, name := range []string{"", "demo-", "demo2", "demo-v", "demo-v01", "demo-v0-1", "demo-v0-0-0", "demo-peers-0", "demo-other", "emo", "xdemo"} {
		if Named("demo", name) {
			t.Errorf("%q is named", name)
		}
	}
	if Named("", "") || Named("", "-peers") {
		t.Error("a network without a name has objects")
	}
}
