package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

const (
	// filesSeen is for how long the operator takes an object that it saw for still there. It
	// watches neither Secrets nor the ConfigMaps of others.
	filesSeen = 5 * time.Minute
	// filesAgain is the time between two looks for one that is missing.
	filesAgain = 5 * time.Second
)

// accessFiles remember when the objects that the networks' access needs were last seen.
type accessFiles struct {
	mu sync.Mutex
	by map[types.NamespacedName]map[resources.File]time.Time
}

func (a *accessFiles) fresh(network types.NamespacedName, f resources.File, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen, ok := a.by[network][f]
	return ok && now.Sub(seen) < filesSeen
}

func (a *accessFiles) put(network types.NamespacedName, f resources.File, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[types.NamespacedName]map[resources.File]time.Time{}
	}
	if a.by[network] == nil {
		a.by[network] = map[resources.File]time.Time{}
	}
	a.by[network][f] = now
}

func (a *accessFiles) drop(network types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.by, network)
}

// readAccess makes the access file, and looks whether the files of others are there. If a pod could
// not start with them, p.accessProblem says why: the pods, and the configuration that they read,
// then stay as they are.
func (p *pass) readAccess(ctx context.Context) error {
	if problem, err := p.missingFiles(ctx); err != nil || problem != nil {
		p.accessProblem = problem
		return errors.Join(err, p.notedProblem(problem))
	}
	p.readClusterIssuer(ctx)
	if _, there := cached[*corev1.ConfigMap](p, resources.AccessName(p.network.Name)); !there && !resources.HasAccessFile(p.network) {
		return nil
	}
	// Nobody may delete the file of a network that has none any more: it then admits everybody.
	wanted, err := resources.AccessConfigMap(p.network, p.cluster)
	if err != nil {
		p.accessProblem = problemf(status.InvalidSpec, "%v", err)
		return p.notedProblem(p.accessProblem)
	}
	p.access = wanted
	return nil
}

// notedProblem notes a problem, if there is one.
func (p *pass) notedProblem(problem *status.Problem) error {
	if problem == nil {
		return nil
	}
	return p.noted(problem)
}

// missingFiles is the problem that files which the nodes need to start are not there; nil if they
// are.
func (p *pass) missingFiles(ctx context.Context) (*status.Problem, error) {
	var missing []string
	for _, f := range resources.RequiredFiles(p.network) {
		if p.r.files.fresh(p.key(), f, p.now) {
			continue
		}
		why, err := p.missingFile(ctx, f)
		if err != nil {
			return nil, err
		}
		if why != "" {
			missing = append(missing, why)
			continue
		}
		p.r.files.put(p.key(), f, p.now)
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return problemf(status.AccessFilesMissing, "%s. No pod is made or restarted until that is there; the pods that run go on as they are. "+
		"Make it, or correct spec.access.tls", strings.Join(missing, "; ")), nil
}

// missingFile says what is missing. The operator reads the names of Secrets, never their contents.
func (p *pass) missingFile(ctx context.Context, f resources.File) (string, error) {
	kind, at := configMapKind, types.NamespacedName{Namespace: p.network.Namespace, Name: f.Name}
	var object client.Object = &corev1.ConfigMap{}
	if f.Secret {
		meta := &metav1.PartialObjectMetadata{}
		meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(secretKind))
		kind, object = secretKind, meta
	}
	err := p.r.live.Get(ctx, at, object)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("%s %s, which spec.%s names, is not there", kind, f.Name, f.Field), nil
	case err != nil:
		return "", fmt.Errorf("get %s %s: %w", kind, f.Name, err)
	}
	if configMap, ok := object.(*corev1.ConfigMap); ok && configMap.Data[f.Key] == "" {
		return fmt.Sprintf("%s %s, which spec.%s names, has no key %s", kind, f.Name, f.Field, f.Key), nil
	}
	return "", nil
}

// readClusterIssuer finds the keys of the cluster's tokens: those that the API server has, else
// those that the nodes have had so far.
func (p *pass) readClusterIssuer(ctx context.Context) {
	if !resources.WantsClusterIssuer(p.network) {
		return
	}
	p.cluster, p.clusterAt, p.clusterErr = p.r.issuer.get(ctx, p.now)
	if p.clusterErr != nil {
		p.remark("cluster issuer", "cannot read the public keys of the cluster's tokens", "err", p.clusterErr.Error())
	}
	if p.cluster != nil {
		return
	}
	if live, ok := cached[*corev1.ConfigMap](p, resources.AccessName(p.network.Name)); ok && p.foreign(live) == "" {
		p.cluster = resources.IssuerIn(live.Data)
	}
}

// applyAccess writes the access file, and makes the kubelets look at it.
func (p *pass) applyAccess(ctx context.Context) error {
	if p.access == nil {
		return nil
	}
	if err := p.applyAll(ctx, []step{p.accessStep()}); err != nil || p.grounded {
		return err
	}
	return p.touchPods(ctx, resources.AccessAnnotation, p.access.Annotations[resources.AccessAnnotation])
}

func (p *pass) accessStep() step {
	return stepFor(p, &corev1.ConfigMap{}, resources.AccessName(p.network.Name), p.access)
}

// accessSeen is what the status says of the admission of clients.
func (p *pass) accessSeen() status.Access {
	a := status.Access{
		Asked: p.network.Spec.Access != nil, OnNodes: resources.OnNodes(p.network), Problem: p.accessProblem,
	}
	if p.access != nil && resources.HasAccessFile(p.network) {
		sum := sha256.Sum256([]byte(p.access.Data[resources.AccessKey]))
		a.File = hex.EncodeToString(sum[:])
	}
	if resources.WantsClusterIssuer(p.network) {
		a.Cluster = &status.ClusterKeys{Known: p.cluster != nil, At: p.clusterAt}
		if p.clusterErr != nil {
			a.Cluster.Err = p.clusterErr.Error()
		}
	}
	return a
}
