package controllers

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
)

// atOnce bounds the requests of one network that are open at the same time.
const atOnce = 8

// publicKeys caches the public keys of key Secrets by UID, so that an operator reads each secret
// key once, and not every few seconds. A key Secret is immutable: other content has another UID. A
// Secret that is not immutable yet is read again when it has changed.
type publicKeys struct {
	mu   sync.Mutex
	keys map[types.UID]publicKey
}

type publicKey struct {
	keys chain.Validator
	// mutable is the version of a Secret that can be changed still; empty if it is immutable.
	mutable string
	// made says that this operator made the Secret: the status in its cache may be older.
	made bool
}

func (k *publicKeys) get(secret metav1.Object) (publicKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.keys[secret.GetUID()]
	return v, ok && (v.mutable == "" || v.mutable == secret.GetResourceVersion())
}

func (k *publicKeys) put(uid types.UID, v publicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = map[types.UID]publicKey{}
	}
	k.keys[uid] = v
}

// readKeys gets the key Secrets of all members, by name, from the API server.
func (p *pass) readKeys(ctx context.Context) error {
	errs := make([]error, len(p.members))
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for i, m := range p.members {
		group.Go(func() error {
			errs[i] = p.readKey(ctx, m)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs: one of each member
	for i, m := range p.members {
		p.recall(m)
		if err := p.hold(m, errs[i]); err != nil {
			return err
		}
		if m.secret != nil {
			p.vouch(m.secret.UID)
		}
		if m.adopted {
			p.adopt(secretKind, m.name)
		}
	}
	return nil
}

// readKey gets the metadata of one key Secret, and its content only if that was not seen before. A
// Secret is the validator's if it has the validator's key, whatever its labels.
func (p *pass) readKey(ctx context.Context, m *member) error {
	at := types.NamespacedName{Namespace: p.network.Namespace, Name: m.name}
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := p.r.live.Get(ctx, at, meta)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get key Secret %s: %w", m.name, err)
	}
	why := p.unlabelled(meta)
	if why != "" && metav1.GetControllerOf(meta) != nil {
		return p.conflict(secretKind, meta, why)
	}
	has, known := p.r.keys.get(meta)
	if !known {
		if has, err = p.readContent(ctx, m, meta); err != nil {
			return err
		}
	}
	keys := has.keys
	wanted := p.knownKey(m)
	known = wanted == keys.PublicKey || has.made
	if !known && why == "" && !m.spent {
		if known, err = p.madeNewcomer(ctx, m, meta, keys.PublicKey); err != nil {
			return err
		}
	}
	switch {
	case known:
	case wanted == (chain.PublicKey{}) && why == "" && p.wished() && !p.born():
		m.adopted = true
	case wanted == (chain.PublicKey{}) && why == "":
		return p.conflict(secretKind, meta, existedBefore)
	case wanted == (chain.PublicKey{}):
		return p.conflict(secretKind, meta, why)
	case why == "" && m.spent: // compareKeys says so
	default:
		return p.conflict(secretKind, meta, fmt.Sprintf("%s, and its key is %s, but %s has the key %s",
			cmp.Or(why, existedBefore), keys.PublicKey, m.name, wanted))
	}
	m.secret, m.keys, m.mutable = meta, keys, has.mutable != ""
	return nil
}

// readContent reads the content of a key Secret, of which meta is the metadata.
func (p *pass) readContent(ctx context.Context, m *member, meta *metav1.PartialObjectMetadata) (publicKey, error) {
	secret := &corev1.Secret{}
	if err := p.r.live.Get(ctx, client.ObjectKeyFromObject(meta), secret); err != nil {
		return publicKey{}, fmt.Errorf("get key Secret %s: %w", m.name, err)
	}
	if secret.UID != meta.UID || secret.ResourceVersion != meta.ResourceVersion {
		return publicKey{}, fmt.Errorf("get key Secret %s: %w: it has changed", m.name, errLater)
	}
	id, err := identity.Parse(secret.Data)
	switch why := p.unlabelled(meta); {
	case err != nil && why != "":
		return publicKey{}, p.conflict(secretKind, meta, fmt.Sprintf("%s, and no key of a validator: %v", why, err))
	case err != nil:
		return publicKey{}, problemf(status.KeyMismatch, "Secret %s does not contain a validator's identity: %v", m.name, err)
	}
	has := publicKey{keys: id.Public()}
	if secret.Immutable == nil || !*secret.Immutable {
		has.mutable = secret.ResourceVersion
	}
	p.r.keys.put(meta.UID, has)
	return has, nil
}

// recall reads the UID of the member's first volume, and whether its vote store was made, from
// their records: the Secret, which outlives the resource, or else the status.
func (p *pass) recall(m *member) {
	if m.secret != nil {
		m.first = types.UID(m.secret.Annotations[resources.FirstVolumeAnnotation])
		m.unused = resources.UnusedVolume(m.secret)
		m.voteStore = resources.MadeVoteStore(m.secret)
		m.retiredAs, m.retired = resources.Retired(m.secret)
	}
	for _, old := range p.network.Status.Members {
		if old.Name == m.name {
			m.first = cmp.Or(m.first, types.UID(old.VolumeUID))
			m.voteStore = m.voteStore || old.VoteStore
		}
	}
}

// recordVoteStores records each validator whose node is seen with its vote store. The record goes
// to the Secret first, then to the peers file, which tells the node, and at the end to the status:
// if one is lost later, another one has it.
func (p *pass) recordVoteStores(ctx context.Context) error {
	for _, m := range p.members {
		if m.voteStore || m.secret == nil || m.wrongKey || m.answer.Status == nil ||
			!m.answer.Status.VoteStore && m.answer.Status.Role != nodeclient.RoleValidator {
			continue
		}
		m.voteStore = true
		err := p.record(ctx, m, m.first)
		if err != nil {
			m.voteStore = false // without the record in the Secret the node must not vote
		}
		if p.noted(err) != nil {
			return err
		}
	}
	return nil
}

// createKeys makes the missing identities before there is a genesis document, and those of
// newcomers. An identity that the chain knows and that is missing is lost: the chain would not know
// a new one.
func (p *pass) createKeys(ctx context.Context) error {
	if p.genesis == nil {
		return p.createMissing(ctx, p.members)
	}
	if p.lost {
		return nil // the pod of a newcomer would not start
	}
	var newcomers []*member
	for _, serial := range p.plan.Grow {
		m := p.member(resources.ValidatorName(p.network.Name, serial))
		if m == nil {
			m = p.newMember(serial)
			if err := p.readObjects(ctx, m); err != nil {
				return err
			}
			p.members = append(p.members, m)
		}
		if m.spent {
			continue // the planner has never said so
		}
		newcomers = append(newcomers, m)
	}
	return p.noted(p.createMissing(ctx, newcomers))
}

// createMissing makes the identities of members that have none. Before there is a genesis document,
// the public keys are in the status before there is a Secret. So a Secret that somebody else makes
// meanwhile is not taken for the operator's. If the operator is killed in between, the next one
// makes other keys. The Secret of a newcomer has a proof instead.
func (p *pass) createMissing(ctx context.Context, members []*member) error {
	identities := map[*member]*identity.Identity{}
	wanted, unrecorded := p.network.Status.DeepCopy(), false
	for _, m := range members {
		if m.secret != nil {
			continue
		}
		id, err := p.r.unmade.of(p.key(), m.name)
		if err != nil {
			return err
		}
		identities[m], m.keys = id, id.Public()
		i := slices.IndexFunc(wanted.Members, func(old v1alpha1.Member) bool { return old.Name == m.name })
		if i < 0 {
			i, wanted.Members = len(wanted.Members), append(wanted.Members, v1alpha1.Member{Name: m.name})
		}
		if wanted.Members[i].PublicKey != m.keys.PublicKey.String() {
			wanted.Members[i].PublicKey, unrecorded = m.keys.PublicKey.String(), true
		}
	}
	if unrecorded && p.genesis == nil {
		observed := p.network
		if err := p.patchStatus(ctx, *wanted); err != nil {
			return err
		}
		if p.network == observed {
			return fmt.Errorf("write status: %w: the network is gone", errLater)
		}
	}
	for _, m := range members {
		if id := identities[m]; id != nil {
			if err := p.createKey(ctx, m, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmadeKeys are identities whose Secrets are not there yet. A creation that is refused is tried
// again with the same key. So the status, which has the key before, does not change each time.
type unmadeKeys struct {
	mu sync.Mutex
	by map[types.NamespacedName]map[string]*identity.Identity
}

// of is the identity for a validator, a new one if there is none.
func (u *unmadeKeys) of(network types.NamespacedName, validator string) (*identity.Identity, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if id := u.by[network][validator]; id != nil {
		return id, nil
	}
	id, err := identity.New()
	if err != nil {
		return nil, err
	}
	if u.by == nil {
		u.by = map[types.NamespacedName]map[string]*identity.Identity{}
	}
	if u.by[network] == nil {
		u.by[network] = map[string]*identity.Identity{}
	}
	u.by[network][validator] = id
	return id, nil
}

// drop forgets the identities of some validators, or of all of a network.
func (u *unmadeKeys) drop(network types.NamespacedName, validators ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, v := range validators {
		delete(u.by[network], v)
	}
	if len(validators) == 0 || len(u.by[network]) == 0 {
		delete(u.by, network)
	}
}

// A newcomer's Secret carries a proof that the operator made it: a MAC of its public key under the
// secret key of a validator of the network. Only who reads Secrets could forge it. So an operator
// knows the Secret that the one before it made as its last write.

// proofOf is the proof for a newcomer; empty if no validator of the set has its Secret.
func (p *pass) proofOf(ctx context.Context, m *member) (string, error) {
	i := slices.IndexFunc(p.members, func(other *member) bool {
		return other.inSet && other.secret != nil && !other.held && !other.wrongKey
	})
	if i < 0 {
		return "", nil
	}
	signer := p.members[i]
	mac, err := p.mac(ctx, signer.name, m.name, m.keys.PublicKey)
	if err != nil || mac == nil {
		return "", err
	}
	return signer.name + ":" + hex.EncodeToString(mac), nil
}

// madeNewcomer says whether a Secret that is on no record has the proof.
func (p *pass) madeNewcomer(ctx context.Context, m *member, secret metav1.Object, key chain.PublicKey) (bool, error) {
	signer, text, ok := strings.Cut(secret.GetAnnotations()[resources.MadeAnnotation], ":")
	if !ok || !p.knows(signer) {
		return false, nil
	}
	mac, err := p.mac(ctx, signer, m.name, key)
	if err != nil || mac == nil {
		return false, err
	}
	claimed, err := hex.DecodeString(text)
	return err == nil && hmac.Equal(mac, claimed), nil
}

// mac is the MAC of a newcomer's name and public key under the secret key of a validator that the
// chain knows; nil if that has not its key.
func (p *pass) mac(ctx context.Context, signer, newcomer string, key chain.PublicKey) ([]byte, error) {
	secret := &corev1.Secret{}
	err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: signer}, secret)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	id, err := identity.Parse(secret.Data)
	if err != nil || !p.knowsKey(signer, id.Public().PublicKey) {
		return nil, nil
	}
	h := hmac.New(sha256.New, secret.Data[identity.SigningKeyFile])
	fmt.Fprintf(h, "diseq.io/made\n%s\n%s\n%s\n", p.network.UID, newcomer, key)
	return h.Sum(nil), nil
}

// createKey makes the key Secret of a member. A Secret is created, never updated. If it exists by
// now, because an answer was lost or another operator was faster, the next reconcile reads it.
func (p *pass) createKey(ctx context.Context, m *member, id *identity.Identity) error {
	files, err := id.Files(m.name)
	if err != nil {
		return err
	}
	secret := resources.KeySecret(p.network, m.serial, files)
	if p.genesis != nil {
		proof, err := p.proofOf(ctx, m)
		if err != nil {
			return fmt.Errorf("proof for Secret %s: %w", m.name, err)
		}
		if proof != "" {
			secret.Annotations[resources.MadeAnnotation] = proof
		}
	}
	p.count()
	if err := p.r.client.Create(ctx, secret, fieldOwner); err != nil {
		return refused(err, "create", "Secret", m.name)
	}
	p.r.unmade.drop(p.key(), m.name)
	m.secret = &metav1.PartialObjectMetadata{TypeMeta: secret.TypeMeta, ObjectMeta: secret.ObjectMeta}
	p.vouch(secret.UID)
	p.r.keys.put(secret.UID, publicKey{keys: m.keys, made: true})
	p.logger().Info("the key of a validator is made", "validator", m.name, "publicKey", m.keys.PublicKey.String())
	return nil
}

// applyKeyMetadata keeps labels, owner and records of the key Secrets.
func (p *pass) applyKeyMetadata(ctx context.Context) error {
	for _, m := range p.members {
		if m.secret != nil {
			if err := p.noted(p.record(ctx, m, m.first)); err != nil {
				return err
			}
		}
	}
	return p.applyFormer(ctx)
}

// record writes to the member's key Secret the UID of its first volume, whether its vote store was
// made, and whether it has left for good.
func (p *pass) record(ctx context.Context, m *member, first types.UID) error {
	if m.wrongKey {
		return nil // it is not the Secret of this validator
	}
	records := resources.Records{FirstVolume: first, VoteStore: m.voteStore}
	if m.unused == first {
		records.Unused = m.unused
	}
	if m.retired {
		records.Retired = m.retiredAs
	}
	wanted, err := resources.KeySecretMetadata(p.network, &corev1.Secret{ObjectMeta: m.secret.ObjectMeta}, records)
	if err != nil {
		return problemf(status.KeyMismatch, "%v", err)
	}
	written, err := p.apply(ctx, wanted, m.secret, asObserved)
	if err != nil {
		return err
	}
	if written != nil { // it may be written once more in this reconcile
		m.secret.SetResourceVersion(written.GetResourceVersion())
		m.secret.SetAnnotations(written.GetAnnotations())
		m.secret.SetLabels(written.GetLabels())
		m.secret.SetOwnerReferences(written.GetOwnerReferences())
	}
	m.first = first
	if err := p.seal(ctx, m); err != nil {
		return err
	}
	return p.unlabelInstance(ctx, m)
}

// seal makes a key Secret immutable, in the version that was read. A person may have restored it
// without that. An apply would have to repeat the field for ever.
func (p *pass) seal(ctx context.Context, m *member) error {
	if !m.mutable {
		return nil
	}
	if err := p.patchKey(ctx, m, map[string]any{"immutable": true}, nil); err != nil {
		return err
	}
	m.mutable = false
	return nil
}

// patchKey patches fields and labels of a key Secret, in the version that was read.
func (p *pass) patchKey(ctx context.Context, m *member, fields, labels map[string]any) error {
	metadata := map[string]any{"uid": m.secret.UID, "resourceVersion": m.secret.ResourceVersion}
	if labels != nil {
		metadata["labels"] = labels
	}
	whole := map[string]any{"metadata": metadata}
	maps.Copy(whole, fields)
	patch, err := json.Marshal(whole)
	if err != nil {
		return fmt.Errorf("patch %s %s: %w", secretKind, m.name, err)
	}
	p.count()
	written := m.secret.DeepCopy()
	if err := p.r.client.Patch(ctx, written, client.RawPatch(types.MergePatchType, patch), fieldOwner); err != nil {
		return refused(err, "patch", secretKind, m.name)
	}
	m.secret = written
	return nil
}

// unlabelInstance removes the label that earlier versions gave to key Secrets, see
// [resources.RetiredLabel]. An apply cannot, because the Secret was created with it. A label that
// somebody else has put there stays.
func (p *pass) unlabelInstance(ctx context.Context, m *member) error {
	label := resources.RetiredLabel
	if m.secret.Labels[label] != p.network.Name || !resources.LabelledByOperator(m.secret, label) {
		return nil
	}
	return p.patchKey(ctx, m, nil, map[string]any{label: nil})
}
