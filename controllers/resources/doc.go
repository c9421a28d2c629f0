// Package resources builds the objects of a network: one pure function for each object, from the
// DiseqNetwork and the caller's observation to a client-go apply configuration.
//
// It promises that equal input gives equal output. So Current can compare an object with its wanted
// state, and an annotation shows the pods of an outdated template (see TemplateOf). No function has
// a client or a clock, and only KeySecret holds a secret key.
//
// It does not decide when an object is made, changed or deleted, nor in which order. The reconciler
// decides that, with the plan of package membership.
package resources
