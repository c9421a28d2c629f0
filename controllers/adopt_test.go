package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
)

// birth is a namespace in which a network of two validators is made.
type birth struct {
	t        *testing.T
	server   client.WithWatch
	recorder *events.FakeRecorder
	// writes are what the operator did to Secrets and the status.
	writes []string
	// fail fails a write; nil fails none.
	fail func(write string) error
}

func newBirth(t *testing.T, existing v1alpha1.ExistingObjects, objects ...client.Object) *birth {
	t.Helper()
	b := &birth{t: t, recorder: events.NewFakeRecorder(1000)}
	network := &v1alpha1.DiseqNetwork{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "0a1b2c3d-network", Generation: 1},
		Spec:       v1alpha1.DiseqNetworkSpec{Validators: 2, Image: "diseq:v1", ExistingObjects: existing},
	}
	for i, o := range objects {
		o.SetNamespace("ns")
		o.SetUID(types.UID(fmt.Sprintf("planted-%d", i)))
	}
	did := func(write string) error {
		b.writes = append(b.writes, write)
		if b.fail != nil {
			return b.fail(write)
		}
		return nil
	}
	b.server = fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
		WithObjects(append(objects, network)...).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: applyLikeAnAPIServer,
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				o.SetUID(types.UID("made/" + o.GetName()))
				if err := did("create " + o.GetName()); err != nil {
					return err
				}
				return c.Create(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := did("status"); err != nil {
					return err
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	return b
}

// operator is one that has just been started.
func (b *birth) operator() *Reconciler {
	b.t.Helper()
	r, err := New(Options{Resync: time.Minute}, b.server, b.server, nil, b.recorder)
	if err != nil {
		b.t.Fatal(err)
	}
	r.monitors.absent = time.Now() // PodMonitors are unknown here
	return r
}

func (b *birth) reconcile(r *Reconciler, times int) {
	b.t.Helper()
	for range times {
		if _, err := r.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "demo"}}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *birth) get(o client.Object, name string) {
	b.t.Helper()
	if err := b.server.Get(b.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, o); err != nil {
		b.t.Fatal(err)
	}
}

func (b *birth) status() v1alpha1.DiseqNetworkStatus {
	b.t.Helper()
	n := &v1alpha1.DiseqNetwork{}
	b.get(n, "demo")
	return n.Status
}

// told are the events with a reason.
func (b *birth) told(reason string) (texts []string) {
	for {
		select {
		case text := <-b.recorder.Events:
			if strings.Contains(text, reason) {
				texts = append(texts, text)
			}
		default:
			return texts
		}
	}
}

func ofNetwork(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{resources.NetworkLabel: "demo"}}
}

// keySecret is a key Secret that somebody else made, as the operator makes them.
func keySecret(t *testing.T, name string) (*corev1.Secret, *identity.Identity) {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	files, err := id.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: ofNetwork(name), Immutable: new(true), Data: files}, id
}

// plantedGenesis is a genesis document with somebody's keys.
func plantedGenesis(t *testing.T, ids ...*identity.Identity) *corev1.ConfigMap {
	t.Helper()
	network := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "0a1b2c3d-network"}}
	var members []resources.Member
	for i, id := range ids {
		members = append(members, resources.Member{Serial: i, Validator: id.Public()})
	}
	genesis, err := resources.Genesis(network, "demo-planted", time.UnixMilli(1), members)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.EncodeGenesis(genesis)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.ConfigMap{ObjectMeta: ofNetwork("demo-genesis"), Data: map[string]string{"genesis.json": string(text)}, Immutable: new(true)}
}

// Somebody who may only make objects makes some with the names and the label of a network that does
// not exist yet. The network is not born with them: the operator says so, touches none of them and
// makes no key.
//
// Promise 66.
func TestPlantedObjectsAreNotAdopted(t *testing.T) {
	secret, one := keySecret(t, "demo-v0")
	other, two := keySecret(t, "demo-v1")
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: ofNetwork("demo-v1"), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "hostile"}}
	for name, objects := range map[string][]client.Object{
		"a key":                          {secret},
		"all keys":                       {secret, other},
		"all keys and the genesis":       {secret, other, plantedGenesis(t, one, two)},
		"a genesis document":             {plantedGenesis(t, one, two)},
		"a claim":                        {claim},
		"the configuration":              {&corev1.ConfigMap{ObjectMeta: ofNetwork("demo-config"), Data: map[string]string{"node.yaml": "x"}}},
		"the Service for clients":        {&corev1.Service{ObjectMeta: ofNetwork("demo"), Spec: corev1.ServiceSpec{ExternalName: "x"}}},
		"a key with the records of ours": {recorded(secret)},
	} {
		t.Run(name, func(t *testing.T) {
			var before []client.Object
			for _, o := range objects {
				before = append(before, o.DeepCopyObject().(client.Object))
			}
			b := newBirth(t, "", before...)
			for i := range before {
				b.get(before[i], before[i].GetName())
			}
			b.reconcile(b.operator(), 3)
			s := b.status()
			if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionDegraded); c == nil || c.Reason != status.NameConflict ||
				!strings.Contains(c.Message, before[0].GetName()) {
				t.Errorf("Degraded is %+v", c)
			}
			if s.GenesisHash != "" || len(s.Adopted) > 0 || slices.ContainsFunc(b.writes, func(w string) bool { return w != "status" }) {
				t.Errorf("genesis hash %q, adopted %v, writes %v", s.GenesisHash, s.Adopted, b.writes)
			}
			for _, was := range before {
				now := was.DeepCopyObject().(client.Object)
				b.get(now, was.GetName())
				if diff := cmp.Diff(was, now); diff != "" {
					t.Errorf("%s has changed: %s", was.GetName(), diff)
				}
			}
		})
	}
}

// recorded is a Secret with the annotations of a validator that ran.
func recorded(secret *corev1.Secret) *corev1.Secret {
	secret = secret.DeepCopy()
	secret.Annotations = map[string]string{resources.FirstVolumeAnnotation: "planted", resources.VoteStoreAnnotation: "made"}
	return secret
}

// The same objects are taken over if the spec asks for it. The status and an event name them, and a
// Secret that could still be changed cannot be any more.
//
// Promise 65.
func TestExistingObjectsAreAdoptedIfTheSpecAsksForIt(t *testing.T) {
	secret, one := keySecret(t, "demo-v0")
	other, two := keySecret(t, "demo-v1")
	other.Immutable = nil
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: ofNetwork("demo-v1"), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "restored"}}
	for name, test := range map[string]struct {
		objects []client.Object
		want    []string
	}{
		"the keys": {[]client.Object{secret, other}, []string{"Secret demo-v0", "Secret demo-v1"}},
		"a whole network": {[]client.Object{secret, other, plantedGenesis(t, one, two), claim},
			[]string{"ConfigMap demo-genesis", "PersistentVolumeClaim demo-v1"}},
		"nothing": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			for _, o := range test.objects {
				objects = append(objects, o.DeepCopyObject().(client.Object))
			}
			b := newBirth(t, v1alpha1.AdoptExisting, objects...)
			r := b.operator()
			b.reconcile(r, 4)
			s := b.status()
			if s.GenesisHash == "" || !slices.Equal(s.Adopted, test.want) {
				t.Errorf("genesis hash %q, adopted %q, want %q", s.GenesisHash, s.Adopted, test.want)
			}
			events := b.told(status.ObjectsAdopted)
			if len(events) > 1 || (len(events) == 0) != (len(test.want) == 0) {
				t.Errorf("events %q", events)
			}
			for _, object := range test.want {
				if !strings.Contains(events[0], object) {
					t.Errorf("the event does not name %s: %s", object, events[0])
				}
			}
			if len(objects) > 0 {
				if s.Members[0].PublicKey != one.Public().PublicKey.String() {
					t.Errorf("%+v has another key", s.Members[0])
				}
				held := &corev1.Secret{}
				b.get(held, "demo-v1")
				if held.Immutable == nil || !*held.Immutable {
					t.Error("a key Secret can be changed")
				}
			}
			// The wish is fulfilled: another operator adopts nothing, and nothing is foreign.
			b.reconcile(b.operator(), 2)
			if now := b.status(); !slices.Equal(now.Adopted, test.want) || meta.FindStatusCondition(now.Conditions, "Degraded").Reason == status.NameConflict {
				t.Errorf("adopted %v, %+v", now.Adopted, now.Conditions)
			}
		})
	}
}

// The public keys are in the status before there is a Secret. So an operator knows the Secrets of
// the one before it, which was killed at once, and no others.
//
// Promise 56.
func TestThePublicKeysAreRecordedBeforeTheSecrets(t *testing.T) {
	b := newBirth(t, "")
	killed := errors.New("killed")
	b.fail = func(write string) error {
		if write == "create demo-v1" {
			return killed
		}
		return nil
	}
	at := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "demo"}}
	if _, err := b.operator().Reconcile(t.Context(), at); !errors.Is(err, killed) {
		t.Fatal(err)
	}
	if want := []string{"status", "create demo-v0", "create demo-v1"}; len(b.writes) < 3 || !slices.Equal(b.writes[:3], want) {
		t.Errorf("writes %v, want %v first", b.writes, want)
	}
	first := b.status().Members[0].PublicKey
	b.fail = nil
	b.reconcile(b.operator(), 3)
	if s := b.status(); s.GenesisHash == "" || s.Members[0].PublicKey != first || len(s.Adopted) > 0 {
		t.Errorf("the next operator did not go on: %+v", s)
	}
}

// A creation that is refused is tried again with the same key and under the same name.
func TestARefusedKeyIsTriedAgain(t *testing.T) {
	b := newBirth(t, "")
	b.fail = func(write string) error {
		if write == "create demo-v1" {
			return apierrors.NewInternalError(errors.New("failed calling webhook: no such service"))
		}
		return nil
	}
	r := b.operator()
	b.reconcile(r, 1)
	first := b.status().Members[1]
	b.reconcile(r, 3)
	if last := b.status().Members[1]; last.PublicKey == "" || last.PublicKey != first.PublicKey {
		t.Errorf("the key was %q and is %q", first.PublicKey, last.PublicKey)
	}
	b.fail = nil
	b.reconcile(r, 3)
	if s := b.status(); s.GenesisHash == "" || s.Members[1].PublicKey != first.PublicKey {
		t.Errorf("the network is born with another key: %+v", s.Members)
	}

	// A newcomer of which the status has the key alone keeps its name.
	network := &v1alpha1.DiseqNetwork{}
	b.get(network, "demo")
	f := newForge("ab")
	network.Spec.Validators = 3
	network.Status.Members = append(network.Status.Members, v1alpha1.Member{Name: "demo-v2", PublicKey: first.PublicKey, Phase: v1alpha1.MemberJoining})
	p := &pass{r: r, network: network, genesis: f.genesis, sets: newHistory(f.genesis), known: true, log: slog.New(slog.DiscardHandler)}
	p.members = []*member{p.newMember(0), p.newMember(1)}
	if err := p.findUnstarted(t.Context()); err != nil || p.nextSerial != 2 {
		t.Errorf("the next newcomer is demo-v%d, error %v", p.nextSerial, err)
	}
	network.Status.Members[2].VolumeUID = "of a claim that is gone"
	p.nextSerial = 0
	if err := p.findUnstarted(t.Context()); err != nil || p.nextSerial != 3 {
		t.Errorf("after a newcomer that had a volume, the next is demo-v%d, error %v", p.nextSerial, err)
	}
}

// A Secret that takes the name of a validator between the record and the creation is not the
// validator's.
func TestAKeyThatIsPlantedInTheMeantimeIsNotTaken(t *testing.T) {
	b := newBirth(t, "")
	planted, _ := keySecret(t, "demo-v0")
	planted.Namespace = "ns"
	killed := errors.New("killed")
	b.fail = func(write string) error {
		if strings.HasPrefix(write, "create") {
			return killed
		}
		return nil
	}
	at := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "demo"}}
	if _, err := b.operator().Reconcile(t.Context(), at); !errors.Is(err, killed) {
		t.Fatal(err)
	}
	b.fail = nil
	if err := b.server.Create(t.Context(), planted); err != nil {
		t.Fatal(err)
	}
	b.reconcile(b.operator(), 2)
	s := b.status()
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionDegraded); c.Reason != status.NameConflict || s.GenesisHash != "" {
		t.Errorf("%+v, genesis hash %q", c, s.GenesisHash)
	}
}

// A Secret that is not immutable is read again when it has changed: its key counts, not the one
// that it once had.
func TestAMutableKeyIsReadAgain(t *testing.T) {
	secret, one := keySecret(t, "demo-v0")
	changed, two := keySecret(t, "demo-v0")
	secret.Immutable = nil
	b := newBirth(t, v1alpha1.AdoptExisting, secret)
	r := b.operator()
	p := &pass{r: r, network: &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo"},
		Spec: v1alpha1.DiseqNetworkSpec{ExistingObjects: v1alpha1.AdoptExisting}}}
	m := &member{name: "demo-v0"}
	for i, want := range []*identity.Identity{one, two, two} {
		if i == 1 {
			held := &corev1.Secret{}
			b.get(held, "demo-v0")
			held.Data = changed.Data
			if err := b.server.Update(t.Context(), held); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.readKey(t.Context(), m); err != nil || m.keys != want.Public() || !m.mutable {
			t.Errorf("look %d: %v, key %v, want %v", i, err, m.keys.PublicKey, want.Public().PublicKey)
		}
	}
}

// The Secret of a newcomer has a proof that only who reads the Secrets of the network can make. A
// planted one has none, a wrong one, that of another newcomer, or one under a key of its maker's.
//
// Promise 57.
func TestTheSecretOfANewcomerProvesWhoMadeIt(t *testing.T) {
	first, id := keySecret(t, "demo-v0")
	b := newBirth(t, "", first)
	_, foreign := keySecret(t, "demo-v4")
	key := foreign.Public().PublicKey
	p := &pass{r: b.operator(), network: &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "u"}}}
	genesis, err := resources.Genesis(p.network, "demo", time.UnixMilli(1), []resources.Member{{Validator: id.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	p.sets = newHistory(genesis)
	p.members = []*member{{name: "demo-v0", inSet: true, secret: &metav1.PartialObjectMetadata{}}}
	m := &member{name: "demo-v4", keys: foreign.Public()}
	proof, err := p.proofOf(t.Context(), m)
	if err != nil || !strings.HasPrefix(proof, "demo-v0:") {
		t.Fatalf("%q %v", proof, err)
	}
	planted, _ := keySecret(t, "demo-v5") // its maker knows this key
	planted.Namespace = "ns"
	if err := b.server.Create(t.Context(), planted); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		newcomer, proof string
		key             chain.PublicKey
		want            bool
	}{
		"the proof":                  {"demo-v4", proof, key, true},
		"none":                       {"demo-v4", "", key, false},
		"no text":                    {"demo-v4", "demo-v0:x", key, false},
		"a wrong one":                {"demo-v4", proof[:len(proof)-2] + "00", key, false},
		"that of another newcomer":   {"demo-v6", proof, key, false},
		"that of another key":        {"demo-v4", proof, id.Public().PublicKey, false},
		"by a key that nobody knows": {"demo-v4", strings.Replace(proof, "demo-v0", "demo-v5", 1), key, false},
		"by a key that is not there": {"demo-v4", strings.Replace(proof, "demo-v0", "demo-v9", 1), key, false},
	} {
		secret := &metav1.ObjectMeta{Annotations: map[string]string{resources.MadeAnnotation: test.proof}}
		if made, err := p.madeNewcomer(t.Context(), &member{name: test.newcomer}, secret, test.key); made != test.want || err != nil {
			t.Errorf("%s: %v, %v", name, made, err)
		}
	}
}
