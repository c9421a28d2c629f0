package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Service describes how clients reach the network.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nodePort) || self.type != 'ClusterIP'",fieldPath=".nodePort",message="a nodePort needs type NodePort or LoadBalancer: set the type, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'",fieldPath=".externalTrafficPolicy",message="externalTrafficPolicy needs type NodePort or LoadBalancer: set the type, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerClass) || self.type == 'LoadBalancer'",fieldPath=".loadBalancerClass",message="loadBalancerClass needs type LoadBalancer: set the type, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerSourceRanges) || self.loadBalancerSourceRanges.size() == 0 || self.type == 'LoadBalancer'",fieldPath=".loadBalancerSourceRanges",message="loadBalancerSourceRanges needs type LoadBalancer: set the type, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.allocateLoadBalancerNodePorts) || self.type == 'LoadBalancer'",fieldPath=".allocateLoadBalancerNodePorts",message="allocateLoadBalancerNodePorts needs type LoadBalancer: set the type, or leave it out"
// +kubebuilder:validation:XValidation:rule="self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass)",fieldPath=".loadBalancerClass",message="cannot be changed while type is LoadBalancer: set another type first, then LoadBalancer with the new class"
// +kubebuilder:validation:XValidation:rule="!has(self.ipFamilies) || self.ipFamilies.size() < 2 || has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack'",fieldPath=".ipFamilies",message="two families need ipFamilyPolicy: PreferDualStack or RequireDualStack"
// +kubebuilder:validation:XValidation:rule="!has(self.ipFamilies) || !has(oldSelf.ipFamilies) || self.ipFamilies.size() == 0 || oldSelf.ipFamilies.size() == 0 || self.ipFamilies[0] == oldSelf.ipFamilies[0]",fieldPath=".ipFamilies",message="the first family cannot be changed while the Service exists: leave ipFamilies out, delete the Service, then set the new ones"
type Service struct {
	// Type of the clients' Service: ClusterIP, NodePort or LoadBalancer. ClusterIP if left out.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	// +kubebuilder:default=ClusterIP
	Type corev1.ServiceType `json:"type,omitempty"`

	// Annotations of the clients' Service, for example settings of a load balancer. Those under
	// diseq.io/ belong to the operator, and its flag --allowed-annotations says which others with a
	// prefix it takes. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('diseq.io/'))",message="annotations under diseq.io/ belong to the operator: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="an annotation has a name such as team or example.com/team"
	Annotations map[string]string `json:"annotations,omitempty"`

	// Labels are added to the clients' Service. Those under diseq.io/ and app.kubernetes.io/ belong
	// to the operator. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('diseq.io/') && !k.startsWith('app.kubernetes.io/'))",message="labels under diseq.io/ and app.kubernetes.io/ belong to the operator: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue() && self[k].size() <= 63)",message="a label has a name such as team or example.com/team and a value of at most 63 characters"
	Labels map[string]string `json:"labels,omitempty"`

	// NodePort is the port of every Kubernetes node that leads to the network, 1 to 65535 and
	// within the range of the API server. For the types NodePort and LoadBalancer. The API server
	// chooses one if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	NodePort *int32 `json:"nodePort,omitempty"`

	// LoadBalancerClass names the implementation of the load balancer, such as
	// example.com/internal. For the type LoadBalancer; it cannot change while the type is that. The
	// cluster's default if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.qualifiedName().validate(self).hasValue()",message="must be a name such as internal or example.com/internal"
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`

	// LoadBalancerSourceRanges are the addresses of clients that the load balancer admits, such as
	// 192.0.2.0/24. For the type LoadBalancer. All clients if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a range of addresses such as 192.0.2.0/24 or 2001:db8::/32"
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`

	// AllocateLoadBalancerNodePorts says whether a load balancer gets ports of the Kubernetes
	// nodes. For the type LoadBalancer. True if left out.
	// +optional
	AllocateLoadBalancerNodePorts *bool `json:"allocateLoadBalancerNodePorts,omitempty"`

	// ExternalTrafficPolicy is Cluster or Local. With Local a Kubernetes node leads clients from
	// outside only to validators that run on it, and their addresses are kept. For the types
	// NodePort and LoadBalancer. Cluster if left out.
	// +optional
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy *corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`

	// SessionAffinity is None or ClientIP. With ClientIP the connections of one address lead to one
	// validator, for three hours after the last one. None if left out.
	// +optional
	// +kubebuilder:validation:Enum=None;ClientIP
	SessionAffinity *corev1.ServiceAffinity `json:"sessionAffinity,omitempty"`

	// IPFamilyPolicy is SingleStack, PreferDualStack or RequireDualStack. The API server chooses it
	// if left out.
	// +optional
	// +kubebuilder:validation:Enum=SingleStack;PreferDualStack;RequireDualStack
	IPFamilyPolicy *corev1.IPFamilyPolicy `json:"ipFamilyPolicy,omitempty"`

	// IPFamilies are IPv4 and IPv6, the first one first. The first family cannot change while the
	// Service exists. The API server chooses them if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	// +kubebuilder:validation:XValidation:rule="self.size() < 2 || self[0] != self[1]",message="must name each family once"
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`

	// Drain is for how long a node that is stopped goes on serving clients. It is not ready
	// meanwhile, so that the Service, load balancers and proxies lead clients elsewhere: choose a
	// time in which all of them notice. It is a duration of whole seconds from 0s to 10m, such as
	// 10s or 1m30s. 10s if left out.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+m)?([0-9]+s)?)$') && self.size() > 0 && duration(self) <= duration('10m')",message="must be a duration of whole seconds from 0s to 10m, such as 10s or 1m30s"
	Drain *metav1.Duration `json:"drain,omitempty"`

	// Explorer makes each node serve the page that shows the chain, at / of its clients' port. True
	// if left out.
	// +optional
	// +kubebuilder:default=true
	Explorer *bool `json:"explorer,omitempty"`
}
