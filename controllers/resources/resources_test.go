package resources

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
)

var testOperator = Operator{
	NodeImage: "diseq:v1", Namespace: "diseq-system", PodLabels: map[string]string{"app.kubernetes.io/name": "diseq-operator"},
}

// newNetwork is a network as the API server would give it, but for the defaults.
func newNetwork(name string) *v1alpha1.DiseqNetwork {
	return &v1alpha1.DiseqNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("0a1b2c3d-0000-4000-8000-" + fmt.Sprintf("%012d", len(name)))},
		Spec:       v1alpha1.DiseqNetworkSpec{Validators: 4},
	}
}

func newMembers(n int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{Serial: i, Validator: chain.Validator{
			PublicKey: chain.PublicKeyOf(ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%032d", i)))), VRFKey: chain.VRFKey{31: byte(i + 1)},
		}}
	}
	return out
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// built is an object as the API server would read it.
type built struct {
	configuration any
	*unstructured.Unstructured
}

func read(t *testing.T, configuration any) built {
	t.Helper()
	raw, err := json.Marshal(configuration)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, u); err != nil {
		t.Fatal(err)
	}
	return built{configuration, u}
}

func (b built) String() string { return b.GetKind() + " " + b.GetName() }

// allObjects is everything that a network of members with those serial numbers has.
func allObjects(t *testing.T, network *v1alpha1.DiseqNetwork, members []Member) []built {
	t.Helper()
	config, err := ConfigMap(network)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := PeersConfigMap(network, members, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := []built{
		read(t, GenesisConfigMap(network, "{}\n")), read(t, config), read(t, peers), read(t, PeersService(network)),
		read(t, ClientsService(network)), read(t, PodDisruptionBudget(network, 3, false)), read(t, PodMonitor(network)),
	}
	if HasAccessFile(network) {
		file, err := AccessConfigMap(network, testCluster)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, read(t, file))
	}
	for _, p := range NetworkPolicies(network, testOperator) {
		out = append(out, read(t, p))
	}
	for _, m := range members {
		secret := KeySecret(network, m.Serial, nil)
		secret.UID = "5ec2e700-0000-4000-8000-000000000000"
		metadata, err := KeySecretMetadata(network, secret, Records{FirstVolume: "70100000-0000-4000-8000-000000000000", VoteStore: true})
		if err != nil {
			t.Fatal(err)
		}
		set, err := StatefulSet(network, testOperator, m.Serial, true)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, read(t, metadata), read(t, ServiceAccount(network, m.Serial)), read(t, PersistentVolumeClaim(network, m.Serial)), read(t, set))
	}
	return out
}

// statefulSet is validator 0's as the API server would read it.
func statefulSet(t *testing.T, network *v1alpha1.DiseqNetwork) *appsv1.StatefulSet {
	t.Helper()
	configuration, err := StatefulSet(network, testOperator, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	out := &appsv1.StatefulSet{}
	raw := must[[]byte](t)(json.Marshal(configuration))
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// One network's name may be the beginning of another's.
// Every selector in every object is the network's own.
func TestOnlyWhatIsRetainedHasNoOwner(t *testing.T) {
	for policy, kept := range map[v1alpha1.RetentionPolicy][]string{
		"":                    {"ConfigMap demo-genesis", "PersistentVolumeClaim demo-v0", "Secret demo-v0"},
		v1alpha1.RetainPolicy: {"ConfigMap demo-genesis", "PersistentVolumeClaim demo-v0", "Secret demo-v0"},
		v1alpha1.DeletePolicy: nil,
	} {
		network := newNetwork("demo")
		network.Spec.Storage.Retention.OnDelete = policy
		var without []string
		for _, o := range allObjects(t, network, newMembers(1)) {
			references := o.GetOwnerReferences()
			if len(references) == 0 {
				without = append(without, o.String())
				continue
			}
			yes := true
			want := []metav1.OwnerReference{{
				APIVersion: "diseq.io/v1alpha1", Kind: "DiseqNetwork", Name: "demo", UID: network.UID, Controller: &yes, BlockOwnerDeletion: &yes,
			}}
			if !reflect.DeepEqual(references, want) {
				t.Errorf("%v is owned by %v", o, references)
			}
			if len(o.GetFinalizers()) > 0 {
				t.Errorf("%v has finalizers %v", o, o.GetFinalizers())
			}
		}
		if slices.Sort(without); !slices.Equal(without, kept) {
			t.Errorf("with %q no owner have %v, want %v", policy, without, kept)
		}
	}
}

// An Argo CD that tracks objects by this label deletes those that have it and no owner.
//
// Promise 65.
func TestWhatMayBeRetainedHasNoInstanceLabel(t *testing.T) {
	for _, policy := range []v1alpha1.RetentionPolicy{v1alpha1.RetainPolicy, v1alpha1.DeletePolicy} {
		network := newNetwork("demo")
		network.Spec.Storage.Retention.OnDelete = policy
		for _, o := range allObjects(t, network, newMembers(1)) {
			_, has := o.GetLabels()[RetiredLabel]
			kept := o.GetKind() == "Secret" || o.GetKind() == "PersistentVolumeClaim" || o.GetName() == GenesisName("demo")
			if has == kept {
				t.Errorf("with %s, %v has the labels %v", policy, o, o.GetLabels())
			}
		}
		if secret := KeySecret(network, 0, nil); secret.Labels[RetiredLabel] != "" || secret.Labels[NetworkLabel] != "demo" {
			t.Errorf("a new key Secret has the labels %v", secret.Labels)
		}
	}
}

func TestKeySecretsAreMadeOnceAndOnlyTheirMetadataChanges(t *testing.T) {
	network := newNetwork("demo")
	network.Spec.Storage.Retention.OnDelete = v1alpha1.DeletePolicy
	id := must[*identity.Identity](t)(identity.New())
	files := must[map[string][]byte](t)(id.Files("demo-v0"))
	secret := KeySecret(network, 0, files)
	if secret.Immutable == nil || !*secret.Immutable || secret.Type != corev1.SecretTypeOpaque || len(secret.OwnerReferences) > 0 {
		t.Errorf("secret %+v", secret.ObjectMeta)
	}
	if again, err := identity.Parse(secret.Data); err != nil || again.Public() != id.Public() {
		t.Errorf("the identity reads back as %v, %v", again, err)
	}
	secret.UID = "s"
	for _, tt := range []struct {
		known, given, want string
		fails              bool
	}{
		{"", "", "", false}, {"", "u", "u", false}, {"u", "u", "u", false}, {"u", "", "u", false}, {"u", "w", "", true},
	} {
		secret.Annotations = map[string]string{FirstVolumeAnnotation: tt.known}
		configuration, err := KeySecretMetadata(network, secret, Records{FirstVolume: types.UID(tt.given)})
		if (err != nil) != tt.fails {
			t.Errorf("%q, then %q: error %v", tt.known, tt.given, err)
		}
		if err != nil {
			continue
		}
		if got := configuration.Annotations[FirstVolumeAnnotation]; got != tt.want {
			t.Errorf("%q, then %q: annotation %q, want %q", tt.known, tt.given, got, tt.want)
		}
		if *configuration.UID != "s" || configuration.Data != nil || configuration.StringData != nil || configuration.Immutable != nil {
			t.Errorf("metadata of a secret applies %+v", configuration)
		}
	}
}

// Only the first claim that is recorded as never used gives way to another one, and only before a
// vote store was made.
func TestAnUnusedFirstVolumeIsReplacedOnce(t *testing.T) {
	for _, tt := range []struct {
		name, unused string
		given        Records
		made         bool
		want         string // first volume and unused one; empty if it is refused
	}{
		{"marked", "", Records{FirstVolume: "u", Unused: "u"}, false, "u u"},
		{"still marked", "u", Records{FirstVolume: "u", Unused: "u"}, false, "u u"},
		{"bound after all", "u", Records{FirstVolume: "u"}, false, "u "},
		{"replaced", "u", Records{FirstVolume: "w"}, false, "w "},
		{"another one was unused", "x", Records{FirstVolume: "w"}, false, ""},
		{"a vote store is recorded", "u", Records{FirstVolume: "w"}, true, ""},
		{"a vote store is recorded now", "u", Records{FirstVolume: "w", VoteStore: true}, false, ""},
	} {
		secret := KeySecret(newNetwork("demo"), 0, nil)
		if !VotesWhenRecorded(secret) {
			t.Error("the Secret does not say that its validator waits for the record")
		}
		secret.Annotations = map[string]string{FirstVolumeAnnotation: "u", UnusedVolumeAnnotation: tt.unused}
		if tt.made {
			secret.Annotations[VoteStoreAnnotation] = VoteStoreMade
		}
		configuration, err := KeySecretMetadata(newNetwork("demo"), secret, tt.given)
		got := ""
		if err == nil {
			got = configuration.Annotations[FirstVolumeAnnotation] + " " + configuration.Annotations[UnusedVolumeAnnotation]
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q (%v)", tt.name, got, tt.want, err)
		}
	}
}

func TestThatAVoteStoreWasMadeIsNeverTakenBack(t *testing.T) {
	network := newNetwork("demo")
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		made, want  bool
	}{
		{"not made", nil, false, false},
		{"made just now", nil, true, true},
		{"made before", map[string]string{VoteStoreAnnotation: VoteStoreMade}, false, true},
		{"made before, by another hand", map[string]string{VoteStoreAnnotation: ""}, false, true},
		{"made, on a volume that is known", map[string]string{FirstVolumeAnnotation: "u"}, true, true},
	} {
		secret := KeySecret(network, 0, nil)
		secret.Annotations = tt.annotations
		configuration, err := KeySecretMetadata(network, secret, Records{FirstVolume: "u", VoteStore: tt.made})
		if err != nil {
			t.Fatal(err)
		}
		if got := configuration.Annotations[VoteStoreAnnotation]; (got == VoteStoreMade) != tt.want || configuration.Annotations[FirstVolumeAnnotation] != "u" {
			t.Errorf("%s: annotations %v", tt.name, configuration.Annotations)
		}
	}
}

func TestNoSecretIsInWhatIsApplied(t *testing.T) {
	network := newNetwork("demo")
	id := must[*identity.Identity](t)(identity.New())
	files := must[map[string][]byte](t)(id.Files("demo-v0"))
	var secrets []string
	for _, file := range []string{identity.SigningKeyFile, identity.VRFKeyFile} {
		lines := strings.Split(strings.TrimSpace(string(files[file])), "\n")
		secrets = append(secrets, lines[len(lines)/2])
	}
	whole := must[[]byte](t)(json.Marshal(KeySecret(network, 0, files)))
	for _, o := range allObjects(t, network, []Member{{Serial: 0, Validator: id.Public()}}) {
		raw := string(must[[]byte](t)(json.Marshal(o.Object)))
		for _, s := range secrets {
			if len(s) < 40 || strings.Contains(raw, s) {
				t.Errorf("%v has %q", o, s)
			}
		}
		if o.GetKind() == "Secret" && (strings.Contains(raw, `"data"`) || !strings.Contains(string(whole), `"data"`)) {
			t.Errorf("%v has data: %s", o, raw)
		}
	}
}

// variants are networks that use what a spec can say of pods.
// No field of the spec's pod template may be forgotten: each changes the pods.
// cmpUID is the UID that an object gets: the one that it names, or a new one.
func TestABudgetIsANumberOfValidators(t *testing.T) {
	for strict, policy := range map[bool]string{false: "AlwaysAllow", true: "IfHealthyBudget"} {
		spec := read(t, PodDisruptionBudget(newNetwork("demo"), 6, strict)).Object["spec"].(map[string]any)
		if spec["minAvailable"] != int64(6) || spec["unhealthyPodEvictionPolicy"] != policy || spec["maxUnavailable"] != nil {
			t.Errorf("strict %v: %v", strict, spec)
		}
	}
}

// The mark of a validator that has left stays, with what it said first about the volume.
func TestTheMarkRetiredIsNeverTakenBack(t *testing.T) {
	for _, tt := range []struct {
		known, given, want string
	}{{"", "", ""}, {"", "Delete", "Delete"}, {"Delete", "", "Delete"}, {"Retain", "Delete", "Retain"}} {
		secret := KeySecret(newNetwork("demo"), 4, nil)
		if tt.known != "" {
			secret.Annotations = map[string]string{RetiredAnnotation: tt.known}
		}
		configuration, err := KeySecretMetadata(newNetwork("demo"), secret, Records{Retired: v1alpha1.RetentionPolicy(tt.given)})
		if err != nil {
			t.Fatal(err)
		}
		if got := configuration.Annotations[RetiredAnnotation]; got != tt.want {
			t.Errorf("%q, then %q: %q", tt.known, tt.given, got)
		}
	}
}

func TestThePeersFileIsReadBackUnlessSomebodyElseChangedIt(t *testing.T) {
	network, members := newNetwork("demo"), newMembers(2)
	members[1].VoteStore, members[1].NamedFor = true, 3
	target := &chain.Target{Follows: 2, Threshold: 2, Validators: []chain.NamedValidator{{Name: "demo-v1", Validator: members[1].Validator}}}
	wanted, err := PeersConfigMap(network, members, target, &chain.Checkpoint{Height: 7, Hash: chain.Hash{1}})
	if err != nil {
		t.Fatal(err)
	}
	live := &corev1.ConfigMap{}
	if err = json.Unmarshal(must[[]byte](t)(json.Marshal(wanted)), live); err != nil {
		t.Fatal(err)
	}
	file, err := ReadPeers(live)
	if err != nil {
		t.Fatal(err)
	}
	want := &PeersFile{
		Peers: []PeerEntry{
			{Name: "demo-v0", PublicKey: members[0].PublicKey, Address: "demo-v0-0.demo-peers.ns.svc:7700"},
			{Name: "demo-v1", PublicKey: members[1].PublicKey, Address: "demo-v1-0.demo-peers.ns.svc:7700", VoteStore: true, NamedFor: 3},
		},
		Target: target, Checkpoint: &chain.Checkpoint{Height: 7, Hash: chain.Hash{1}},
	}
	if !reflect.DeepEqual(file, want) {
		t.Errorf("%+v", file)
	}
	live.Data[PeersKey] = strings.Replace(live.Data[PeersKey], `"named_for": 3`, `"named_for": 2`, 1)
	if file, err := ReadPeers(live); err == nil {
		t.Errorf("a file that somebody changed was taken: %+v", file)
	}
}

func TestServicesAreForPeersAndForClients(t *testing.T) {
	network := newNetwork("demo")
	network.Spec.Service = v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"lb": "x", AppliedAnnotation: "other"}}
	peers, clients := PeersService(network), ClientsService(network)
	if *peers.Name != "demo-peers" || *peers.Spec.ClusterIP != "None" || !*peers.Spec.PublishNotReadyAddresses || *peers.Spec.Ports[0].Port != 7700 {
		t.Errorf("peers %+v", peers.Spec)
	}
	if *clients.Name != "demo" || clients.Spec.PublishNotReadyAddresses != nil || *clients.Spec.Ports[0].Port != 8080 || len(clients.Spec.Ports) != 1 ||
		*clients.Spec.Type != corev1.ServiceTypeLoadBalancer || clients.Annotations["lb"] != "x" || clients.Annotations[AppliedAnnotation] != Hash(clients) {
		t.Errorf("clients %+v, %v", clients.Spec, clients.Annotations)
	}
	if got := *ClientsService(newNetwork("demo")).Spec.Type; got != corev1.ServiceTypeClusterIP {
		t.Errorf("default type %s", got)
	}
	set := statefulSet(t, network)
	host := set.Name + "-0." + set.Spec.ServiceName + ".ns.svc:7700"
	if got := PeerAddress("demo", "ns", "demo-v0"); got != host {
		t.Errorf("peer address %s, the pod is %s", got, host)
	}
}

// Fields that the spec leaves out belong to others.
func TestTheServiceHasTheFieldsOfTheSpecAndNoOthers(t *testing.T) {
	plain := read(t, ClientsService(newNetwork("demo"))).Object["spec"].(map[string]any)
	for _, field := range []string{"sessionAffinity", "ipFamilies", "ipFamilyPolicy", "externalTrafficPolicy", "loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"} {
		if _, ok := plain[field]; ok {
			t.Errorf("%s is applied and not in the spec", field)
		}
	}
	network := newNetwork("demo")
	network.Spec.Service = v1alpha1.Service{
		Type: corev1.ServiceTypeLoadBalancer, Labels: map[string]string{"team": "x", NetworkLabel: "other"}, NodePort: new(int32(30080)),
		LoadBalancerClass: new("example.com/lb"), LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, AllocateLoadBalancerNodePorts: new(false),
		ExternalTrafficPolicy: new(corev1.ServiceExternalTrafficPolicyLocal), SessionAffinity: new(corev1.ServiceAffinityClientIP),
		IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack), IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol},
	}
	fields := reflect.ValueOf(network.Spec.Service)
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; !slices.Contains([]string{"Annotations", "Drain", "Explorer"}, name) && fields.Field(i).IsZero() {
			t.Errorf("the test has no value for %s", name)
		}
	}
	var got corev1.Service
	if err := json.Unmarshal(must[[]byte](t)(json.Marshal(ClientsService(network))), &got); err != nil {
		t.Fatal(err)
	}
	want := network.Spec.Service
	if got.Labels["team"] != "x" || got.Labels[NetworkLabel] != "demo" || got.Spec.Ports[0].NodePort != 30080 || *got.Spec.LoadBalancerClass != "example.com/lb" ||
		!slices.Equal(got.Spec.LoadBalancerSourceRanges, want.LoadBalancerSourceRanges) || *got.Spec.AllocateLoadBalancerNodePorts ||
		got.Spec.ExternalTrafficPolicy != *want.ExternalTrafficPolicy || got.Spec.SessionAffinity != *want.SessionAffinity ||
		*got.Spec.IPFamilyPolicy != *want.IPFamilyPolicy || !slices.Equal(got.Spec.IPFamilies, want.IPFamilies) {
		t.Errorf("%+v, %+v", got.ObjectMeta, got.Spec)
	}
}

func TestVolumesAreAsTheSpecSays(t *testing.T) {
	network := newNetwork("demo")
	plain := PersistentVolumeClaim(network, 0).Spec
	if plain.StorageClassName != nil || plain.AccessModes[0] != corev1.ReadWriteOnce || plain.Resources.Requests.Storage().String() != "10Gi" {
		t.Errorf("default volume %+v", plain)
	}
	network.Spec.Storage = v1alpha1.Storage{Size: bytesOf(1 << 30), StorageClassName: "fast", AccessMode: corev1.ReadWriteOncePod}
	given := PersistentVolumeClaim(network, 0).Spec
	if *given.StorageClassName != "fast" || !slices.Equal(given.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}) ||
		given.Resources.Requests.Storage().String() != "1Gi" {
		t.Errorf("volume %+v", given)
	}
}

func TestMonitoringIsOnUnlessTurnedOff(t *testing.T) {
	network := newNetwork("demo")
	if !Monitored(network) {
		t.Error("off by default")
	}
	network.Spec.Monitoring.Enabled = new(bool)
	if Monitored(network) {
		t.Error("on though turned off")
	}
	o := read(t, PodMonitor(network))
	endpoints, _, _ := unstructured.NestedSlice(o.Object, "spec", "podMetricsEndpoints")
	if o.GetAPIVersion() != "monitoring.coreos.com/v1" || len(endpoints) != 1 || endpoints[0].(map[string]any)["port"] != OperationsPortName {
		t.Errorf("%+v", o.Object)
	}
}
