// Package controllers is the operator: it turns a DiseqNetwork into a running network, and keeps it
// running.
//
// One reconcile observes everything once: the objects of the network in the cache, key Secrets by
// name, the nodes themselves. It decides with pure functions (packages membership and status), acts
// with server-side apply, and reports.
//
// Every step may be the last one before the operator is killed, and every observation may be out of
// date. So each write is right by itself, happens once, and has a guard against changes since the
// observation. A new object is created and never taken over by accident. A StatefulSet is changed
// only if it is still the version that was observed. A pod is deleted only if it is still the pod
// that the planner saw.
//
// The operator promises:
//
//   - It never changes or removes a key.
//   - It never lets a node make a vote store on another volume than its validator's first one, nor
//     a second one there once it was seen voting.
//   - It never takes a vote away that the chain needs.
//   - It never touches an object that does not belong to the network.
//
// It does not change the set of validators, and it does not create namespaces, volumes or images.
package controllers
