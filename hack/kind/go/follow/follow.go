// Package follow runs a function at every change in the API server. Our own programs on a node use
// it: at each change they read all the objects that they watch, and adapt the node.
package follow

import (
	"context"
	"fmt"
	"log"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Events come in bursts. An event is acted on together with those that follow it this closely.
const settle = 200 * time.Millisecond

// Client returns a client with the rights of the pod that this runs in, and a factory of informers
// on it. The informers repeat all their objects every 30 seconds.
func Client() (kubernetes.Interface, informers.SharedInformerFactory, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	return client, informers.NewSharedInformerFactory(client, 30*time.Second), nil
}

// Run starts the factory and calls reconcile whenever one of the watched informers has news, and
// again a second after each error. It returns when ctx ends.
func Run(ctx context.Context, factory informers.SharedInformerFactory, reconcile func() error, watched ...cache.SharedIndexInformer) error {
	wake := make(chan struct{}, 1)
	kick := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	for _, informer := range watched {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { kick() },
			UpdateFunc: func(_, _ any) { kick() }, // also at every repetition
			DeleteFunc: func(any) { kick() },
		}); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("cannot list every %v", kind)
		}
	}
	kick()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		if err := reconcile(); err != nil {
			log.Printf("will try again: %v", err)
			time.AfterFunc(time.Second, kick)
		}
		time.Sleep(settle)
	}
}
