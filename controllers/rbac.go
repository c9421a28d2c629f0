package controllers

// What the operator may do, and no more. Each line is a rule of config/rbac/role.yaml, which `make
// generate` writes. Server-side apply needs create beside patch. What goes with its owner is
// deleted by the garbage collector, not by the operator.
//
// A network is read, and only its status written. The finalizers right lets objects name a network
// as their owner with blockOwnerDeletion where the cluster enforces permissions on that.
//
// +kubebuilder:rbac:groups=diseq.io,resources=diseqnetworks,verbs=get;list;watch
// +kubebuilder:rbac:groups=diseq.io,resources=diseqnetworks/status,verbs=patch
// +kubebuilder:rbac:groups=diseq.io,resources=diseqnetworks/finalizers,verbs=update
//
// The objects of a network.
//
// +kubebuilder:rbac:groups="",resources=configmaps;persistentvolumeclaims;serviceaccounts;services,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch
//
// Keys: got by name, never listed or watched, never deleted.
//
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;create;patch
//
// Pods are deleted one at a time, for an update or a repair.
//
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;delete
//
// The kind may be unknown to the cluster, so that it is never watched.
//
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=podmonitors,verbs=get;create;patch;delete
//
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
