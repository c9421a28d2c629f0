// Package resources says what the objects of a network look like: one pure function for each
// object, from the DiseqNetwork and what the caller observed to a client-go apply configuration.
//
// It promises that equal input gives equal output, so that Current can tell an object that is as it
// should be from one that has to be applied, and pods of an outdated template are told by an
// annotation (see TemplateOf). No function has a client or a clock, and no secret key is in
// anything but KeySecret.
//
// It does not decide when an object is made, changed or deleted, nor in which order: that is the
// reconciler's part, with the plan of package membership.
package resources
