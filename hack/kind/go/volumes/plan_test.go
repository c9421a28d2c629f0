package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var here = node{name: "here", root: "/volumes"}

func claim(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := "standard"
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "data", UID: "1",
			Annotations: map[string]string{provisionerOfClaim: provisioner, nodeOfClaim: "here"},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if change != nil {
		change(c)
	}
	return c
}

func class(policy corev1.PersistentVolumeReclaimPolicy) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "standard"}, Provisioner: provisioner, ReclaimPolicy: &policy}
}

func TestWhichClaimsGetAVolumeHere(t *testing.T) {
	now := metav1.Now()
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolumeClaim)
		want   bool
	}{
		"waits for this node": {nil, true},
		"its pod runs on another node": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations[nodeOfClaim] = "there"
		}, false},
		"no pod of it is scheduled": {func(c *corev1.PersistentVolumeClaim) {
			delete(c.Annotations, nodeOfClaim)
		}, false},
		"of another provisioner": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations[provisionerOfClaim] = "example.com/other"
		}, false},
		"has its volume":         {func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pvc-1" }, false},
		"is being deleted":       {func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &now }, false},
		"its class is not known": {func(c *corev1.PersistentVolumeClaim) { *c.Spec.StorageClassName = "other" }, false},
		"names no class":         {func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }, false},
	} {
		p := here.plan(observed{
			claims:  []*corev1.PersistentVolumeClaim{claim(c.change)},
			classes: []*storagev1.StorageClass{class(corev1.PersistentVolumeReclaimDelete)},
		})
		if got := len(p.create) == 1; got != c.want || len(p.remove) != 0 {
			t.Errorf("%s: makes a volume: %v, want %v; removes %d", name, got, c.want, len(p.remove))
		}
	}
}

func TestAVolumeIsOnItsNodeForItsClaim(t *testing.T) {
	v := here.volume(claim(nil), class(corev1.PersistentVolumeReclaimRetain))
	if v.Spec.ClaimRef.UID != "1" || v.Spec.ClaimRef.Name != "data" || v.Spec.ClaimRef.Namespace != "ns" {
		t.Errorf("for %+v", v.Spec.ClaimRef)
	}
	if v.Spec.HostPath.Path != "/volumes/pvc-1" {
		t.Errorf("at %s", v.Spec.HostPath.Path)
	}
	if got := v.Spec.Capacity[corev1.ResourceStorage]; got.String() != "1Gi" {
		t.Errorf("of %s", got.String())
	}
	if v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		t.Errorf("reclaim policy %s, the class says Retain", v.Spec.PersistentVolumeReclaimPolicy)
	}
	if on := v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values; len(on) != 1 || on[0] != "here" {
		t.Errorf("on the nodes %v", on)
	}
}

func TestAVolumeIsMadeOnce(t *testing.T) {
	classes := []*storagev1.StorageClass{class(corev1.PersistentVolumeReclaimDelete)}
	p := here.plan(observed{
		claims:  []*corev1.PersistentVolumeClaim{claim(nil)},
		volumes: []*corev1.PersistentVolume{here.volume(claim(nil), classes[0])},
		classes: classes,
	})
	if len(p.create) != 0 {
		t.Errorf("made again: %s", p.create[0].Name)
	}
}

func TestWhichVolumesAreRemoved(t *testing.T) {
	now := metav1.Now()
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolume)
		want   bool
	}{
		"released":         {func(*corev1.PersistentVolume) {}, true},
		"bound":            {func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeBound }, false},
		"of another node":  {func(v *corev1.PersistentVolume) { v.Annotations[nodeOfClaim] = "there" }, false},
		"of somebody else": {func(v *corev1.PersistentVolume) { delete(v.Annotations, provisionerOfVolume) }, false},
		"elsewhere":        {func(v *corev1.PersistentVolume) { v.Spec.HostPath.Path = "/etc" }, false},
		"to be retained": {func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}, false},
		"going already": {func(v *corev1.PersistentVolume) { v.DeletionTimestamp = &now }, false},
	} {
		v := here.volume(claim(nil), class(corev1.PersistentVolumeReclaimDelete))
		v.Status.Phase = corev1.VolumeReleased
		c.change(v)
		if got := len(here.plan(observed{volumes: []*corev1.PersistentVolume{v}}).remove) == 1; got != c.want {
			t.Errorf("%s: removed: %v, want %v", name, got, c.want)
		}
	}
}
