package controllers

// The operator has these rights and no others. Each line is a rule of config/rbac/role.yaml, which
// `make generate` writes. Server-side apply needs create beside patch. The garbage collector
// deletes the objects of a network that is deleted, so the operator needs no right for that.
//
// The operator reads networks, and writes their status alone. The finalizers right lets objects
// name a network as their owner with blockOwnerDeletion where the cluster enforces permissions on
// that.
//
// +kubebuilder:rbac:groups=diseq.io,resources=diseqnetworks,verbs=get;list;watch
// +kubebuilder:rbac:groups=diseq.io,resources=diseqnetworks/status,verbs=patch
// +kubebuilder:rbac:groups=diseq.io,resources=diseqnetworks/finalizers,verbs=update
//
// Objects of a network.
//
// +kubebuilder:rbac:groups="",resources=configmaps;services,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch
//
// Objects of a validator. When it has left the set, its StatefulSet and its account are deleted,
// and its volume if the retention policy says so.
//
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims;serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=get;list;watch;create;patch;delete
//
// Keys: the operator gets them by name, and never lists, watches or deletes them.
//
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;create;patch
//
// Pods are deleted one at a time, for an update or a repair. An annotation is patched, so that
// their kubelets look at the peers file at once.
//
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;patch;delete
//
// The cluster may not know the kind, so the operator never watches it.
//
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=podmonitors,verbs=get;create;patch;delete
//
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
//
// Only the events of a StatefulSet say why it has no pod, and only those of a pod why its volume is
// not mounted. The operator lists those of a validator that has waited for two minutes.
//
// +kubebuilder:rbac:groups="",resources=events,verbs=list
