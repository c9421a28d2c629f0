// Command volumes makes the volumes of the StorageClass "standard": directories of the node that
// their pod runs on. It runs on every node and serves the claims whose pods are scheduled there, so
// that no pod has to be started to make a directory elsewhere:
//
//   - a claim that waits for a volume on this node gets a directory and a PersistentVolume;
//   - a released volume of this node is removed, with its directory, if its class says Delete.
//
// As with kind's own provisioner, a volume has no limit of size, and any user may write to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"github.com/diseq/diseq/hack/kind/go/follow"
)

func main() {
	log.SetFlags(log.Ltime)
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	n := node{name: os.Getenv("NODE_NAME"), root: os.Getenv("VOLUMES")}
	if n.name == "" || !filepath.IsAbs(n.root) {
		return fmt.Errorf("NODE_NAME is %q and VOLUMES is %q; set them to the node's name and to an absolute path", n.name, n.root)
	}
	client, factory, err := follow.Client()
	if err != nil {
		return err
	}
	claims, volumes := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes()
	classes := factory.Storage().V1().StorageClasses()
	reconcile := func() error {
		var seen observed
		var err error
		if seen.claims, err = claims.Lister().List(labels.Everything()); err != nil {
			return err
		}
		if seen.volumes, err = volumes.Lister().List(labels.Everything()); err != nil {
			return err
		}
		if seen.classes, err = classes.Lister().List(labels.Everything()); err != nil {
			return err
		}
		return n.apply(ctx, client, n.plan(seen))
	}
	return follow.Run(ctx, factory, reconcile, claims.Informer(), volumes.Informer(), classes.Informer())
}

// observed holds the API server's objects of volumes.
type observed struct {
	claims  []*corev1.PersistentVolumeClaim
	volumes []*corev1.PersistentVolume
	classes []*storagev1.StorageClass
}

// apply makes and removes the volumes of the plan. An error with one does not stop the others.
func (n node) apply(ctx context.Context, client kubernetes.Interface, p plan) error {
	failed := make([]error, 0, len(p.create)+len(p.remove))
	for _, volume := range p.create {
		failed = append(failed, n.create(ctx, client, volume))
	}
	for _, volume := range p.remove {
		failed = append(failed, n.remove(ctx, client, volume))
	}
	return errors.Join(failed...)
}

func (n node) create(ctx context.Context, client kubernetes.Interface, volume *corev1.PersistentVolume) error {
	path := volume.Spec.HostPath.Path
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	// The umask has cut the mode above. Any user may write: fsGroup does not apply to host paths.
	if err := os.Chmod(path, 0o777); err != nil { //nolint:gosec // see above
		return err
	}
	_, err := client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // the informer has not heard of it yet
		return nil
	}
	if err == nil {
		log.Printf("%s: made for %s/%s", volume.Name, volume.Spec.ClaimRef.Namespace, volume.Spec.ClaimRef.Name)
	}
	return err
}

func (n node) remove(ctx context.Context, client kubernetes.Interface, volume *corev1.PersistentVolume) error {
	if err := os.RemoveAll(volume.Spec.HostPath.Path); err != nil {
		return err
	}
	err := client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		log.Printf("%s: removed", volume.Name)
	}
	return err
}
