// Package controllers is the operator: it makes a running network of a DiseqNetwork, and keeps it
// running.
//
// One reconcile observes everything once (the objects of the network in the cache, key Secrets by
// name, the nodes themselves), decides with pure functions (packages membership and status), acts
// with server-side apply, and reports. Every step may be the last one before the operator is
// killed, and every observation may be old; each write therefore is right by itself, is made once,
// and is guarded against what may have changed since: a new object is created and never taken over
// by accident, a StatefulSet is changed only as it was seen, a pod is deleted only if it is still
// the one that was judged.
//
// It promises never to change or remove a key, never to let a node make a vote store on another
// volume than its validator's first one, nor there again once it was seen voting, never to take a
// vote away that the chain needs, and never to touch what is not the network's own. It does not
// change the set of validators, and it does not create namespaces, volumes or images.
package controllers
