package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
)

// atOnce bounds the requests of one network that are open at the same time.
const atOnce = 8

// publicKeys caches the public keys of key Secrets by UID, so that an operator reads each secret
// key once, and not every few seconds. A key Secret is immutable: other content has another UID.
type publicKeys struct {
	mu   sync.Mutex
	keys map[types.UID]chain.Validator
}

func (k *publicKeys) get(uid types.UID) (chain.Validator, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.keys[uid]
	return v, ok
}

func (k *publicKeys) put(uid types.UID, v chain.Validator) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = map[types.UID]chain.Validator{}
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
	}
	return nil
}

// readKey gets the metadata of one key Secret, and its content only if that was not seen before. A
// Secret without the label is the validator's if it has the validator's key.
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
	keys, known := p.r.keys.get(meta.UID)
	if !known {
		secret := &corev1.Secret{}
		if err := p.r.live.Get(ctx, at, secret); err != nil {
			return fmt.Errorf("get key Secret %s: %w", m.name, err)
		}
		if secret.UID != meta.UID {
			return fmt.Errorf("get key Secret %s: %w: another Secret has its name by now", m.name, errLater)
		}
		id, err := identity.Parse(secret.Data)
		if err != nil && why != "" {
			return p.conflict(secretKind, meta, fmt.Sprintf("%s, and no key of a validator: %v", why, err))
		}
		if err != nil {
			return problemf(status.KeyMismatch, "Secret %s does not contain a validator's identity: %v", m.name, err)
		}
		keys = id.Public()
		p.r.keys.put(meta.UID, keys)
	}
	if why != "" {
		switch wanted := p.knownKey(m); {
		case wanted == (chain.PublicKey{}):
			return p.conflict(secretKind, meta, why)
		case wanted != keys.PublicKey:
			return p.conflict(secretKind, meta, fmt.Sprintf("%s, and its key is %s, but %s has the key %s", why, keys.PublicKey, m.name, wanted))
		}
	}
	m.secret, m.keys = meta, keys
	return nil
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
		for _, m := range p.members {
			if err := p.createKey(ctx, m); err != nil {
				return err
			}
		}
		return nil
	}
	if p.lost {
		return nil // the pod of a newcomer would not start
	}
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
		if err := p.noted(p.createKey(ctx, m)); err != nil {
			return err
		}
	}
	return nil
}

// createKey makes the identity of a member that has none. A Secret is created, never updated. If it
// exists by now, because an answer was lost or another operator was faster, the next reconcile
// reads it.
func (p *pass) createKey(ctx context.Context, m *member) error {
	if m.secret != nil {
		return nil
	}
	id, err := identity.New()
	if err != nil {
		return err
	}
	files, err := id.Files(m.name)
	if err != nil {
		return err
	}
	secret := resources.KeySecret(p.network, m.serial, files)
	p.count()
	if err := p.r.client.Create(ctx, secret, fieldOwner); err != nil {
		return refused(err, "create", "Secret", m.name)
	}
	m.secret = &metav1.PartialObjectMetadata{TypeMeta: secret.TypeMeta, ObjectMeta: secret.ObjectMeta}
	m.keys = id.Public()
	p.r.keys.put(secret.UID, m.keys)
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
	return p.unlabelInstance(ctx, m)
}

// unlabelInstance removes the label that earlier versions gave to key Secrets, see
// [resources.RetiredLabel]. An apply cannot, because the Secret was created with it. A label that
// somebody else has put there stays.
func (p *pass) unlabelInstance(ctx context.Context, m *member) error {
	label := resources.RetiredLabel
	if m.secret.Labels[label] != p.network.Name || !resources.LabelledByOperator(m.secret, label) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": m.secret.UID, "resourceVersion": m.secret.ResourceVersion, "labels": map[string]any{label: nil},
	}})
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
