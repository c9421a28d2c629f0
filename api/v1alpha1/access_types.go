package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Access says from where clients may connect, how they prove who they are, and what they may do. It
// is about the clients' port alone: nodes authenticate each other by their own keys.
//
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || self.clients.size() == 0 || has(self.anonymous)",fieldPath=".anonymous",reason=FieldValueRequired,message="where clients are listed, say what a client without a credential may do: {allow: []} is nothing, {allow: [Submit, Read, Observe]} everything"
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || !self.clients.exists(c, has(c.certificate)) || has(self.tls) && has(self.tls.clientCA)",fieldPath=".tls",message="a client with a certificate needs tls.clientCA: the authority that signs the certificates of clients"
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || !self.clients.exists(c, has(c.token) || has(c.jwt) || has(c.serviceAccount)) || has(self.tls)",fieldPath=".tls",message="a client with a token, a JWT or a ServiceAccount needs tls: without it everybody on the way could read and repeat the token"
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || !self.clients.exists(c, has(c.serviceAccount)) || has(self.issuers) && self.issuers.exists(i, has(i.kubernetes))",fieldPath=".issuers",message="a client with a ServiceAccount needs the cluster as an issuer, such as {name: cluster, kubernetes: {}}"
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || self.clients.all(c, !has(c.jwt) || has(self.issuers) && self.issuers.exists(i, i.name == c.jwt.issuer))",fieldPath=".clients",message="jwt.issuer must be the name of one of spec.access.issuers"
// +kubebuilder:validation:XValidation:rule="!has(self.issuers) || self.issuers.filter(i, has(i.kubernetes)).size() <= 1",fieldPath=".issuers",message="the cluster may be an issuer only once: give its audiences in one entry"
type Access struct {
	// TLS makes the nodes serve clients over TLS, and no longer without it. Off if left out.
	// +optional
	TLS *AccessTLS `json:"tls,omitempty"`

	// Networks are the places from which clients may connect, as the NetworkPolicy of the clients'
	// port has them. It has an effect only where the network of the cluster enforces policies. One
	// to 64. Anywhere if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Networks []NetworkPeer `json:"networks,omitempty"`

	// Anonymous says what a client without a credential may do. Everything if left out; it must be
	// there if there are clients.
	// +optional
	Anonymous *AnonymousClients `json:"anonymous,omitempty"`

	// Issuers sign the JSON Web Tokens of clients, such as those of the cluster's ServiceAccounts.
	// At most 16. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Issuers []TokenIssuer `json:"issuers,omitempty"`

	// Clients are those that the nodes know by name. At most 256. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Clients []AccessClient `json:"clients,omitempty"`

	// Reserve is what the nodes keep for the clients that have a name.
	// +optional
	// +kubebuilder:default={}
	Reserve Reserve `json:"reserve,omitempty"`

	// Audit says where the nodes write a line for each request that they admit or refuse. Nowhere
	// if left out.
	// +optional
	Audit *Audit `json:"audit,omitempty"`
}

// AccessTLS is how the nodes serve clients over TLS.
type AccessTLS struct {
	// SecretName is the Secret of type kubernetes.io/tls with the nodes' certificate and its key,
	// as cert-manager writes it. It must be in the namespace of the network, and the certificate
	// must be for the names by which clients reach the network. The nodes mount it, and load it
	// again when it changes. The operator never reads its contents. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	SecretName string `json:"secretName"`

	// ClientCA are the authorities whose certificates the nodes accept from clients. No certificate
	// is accepted if left out.
	// +optional
	ClientCA *ClientCA `json:"clientCA,omitempty"`

	// MinVersion is the lowest version of TLS, 1.2 or 1.3. 1.3 if left out.
	// +optional
	// +kubebuilder:validation:Enum="1.2";"1.3"
	// +kubebuilder:default="1.3"
	MinVersion string `json:"minVersion,omitempty"`
}

// ClientCA names a file with certificates of authorities, in PEM.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMap) != has(self.secretName)",message="must have exactly one of configMap and secretName"
type ClientCA struct {
	// ConfigMap is the ConfigMap with the certificates, in the namespace of the network, such as
	// one of trust-manager. None if left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a ConfigMap: lower-case letters, digits, '-' and '.'"
	ConfigMap string `json:"configMap,omitempty"`

	// SecretName is the Secret with the certificates, in the namespace of the network, such as one
	// of cert-manager. None if left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	SecretName string `json:"secretName,omitempty"`

	// Key is the key with the certificates. ca.crt if left out.
	// +optional
	// +kubebuilder:default=ca.crt
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",message="must be a key of a ConfigMap or a Secret: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// NetworkPeer is one end of connections that are allowed: pods, or addresses. Its fields are those
// of the peers of a NetworkPolicy.
//
// +kubebuilder:validation:XValidation:rule="has(self.ipBlock) != (has(self.namespaceSelector) || has(self.podSelector))",message="must have either ipBlock, or one or both of namespaceSelector and podSelector"
type NetworkPeer struct {
	// NamespaceSelector selects namespaces by their labels; {} selects all of them. The namespace
	// of the network if left out.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// PodSelector selects pods of those namespaces by their labels; {} selects all of them. All
	// pods if left out.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// IPBlock is a range of addresses outside of the cluster. None if left out.
	// +optional
	IPBlock *IPBlock `json:"ipBlock,omitempty"`
}

// IPBlock is a range of addresses.
//
// +kubebuilder:validation:XValidation:rule="!has(self.except) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || cidr(self.cidr).containsCIDR(e) && e != self.cidr)",fieldPath=".except",message="each range must be within cidr, and smaller than that"
type IPBlock struct {
	// CIDR is the range, such as 192.0.2.0/24. No default.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a range of addresses such as 192.0.2.0/24 or 2001:db8::/32"
	CIDR string `json:"cidr"`

	// Except are ranges within it that do not count. At most 32. None if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a range of addresses such as 192.0.2.0/24 or 2001:db8::/32"
	Except []string `json:"except,omitempty"`
}

// ClientRight is something that a client may do.
type ClientRight string

const (
	// SubmitRight lets a client submit messages.
	SubmitRight ClientRight = "Submit"
	// ReadRight lets a client read messages, blocks, receipts and proofs.
	ReadRight ClientRight = "Read"
	// ObserveRight lets a client read the status of the node and of the network.
	ObserveRight ClientRight = "Observe"
)

// AnonymousClients are the clients without a credential.
type AnonymousClients struct {
	// Allow is what they may do, of Submit, Read and Observe; [] is nothing. No default.
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:Enum=Submit;Read;Observe
	Allow []ClientRight `json:"allow"`

	// Limits hold for each address, on each node: an IPv4 address, or the first 64 bits of an IPv6
	// address. Those of the node alone if left out.
	// +optional
	Limits *ClientLimits `json:"limits,omitempty"`

	// Total are the limits of all anonymous clients together, on each node. Clients with many
	// addresses have many times the limits of one. None if left out.
	// +optional
	Total *ClientLimits `json:"total,omitempty"`
}

// Reserve is what the nodes keep for the clients that have a name.
type Reserve struct {
	// Share of the streams, the large requests and the pool of each node that anonymous clients
	// cannot take, in percent: 0 to 90. 25 if left out.
	// +optional
	// +kubebuilder:default=25
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=90
	Share *int32 `json:"share,omitempty"`

	// Disk is the free space, in bytes, that messages of anonymous clients do not fill. It comes on
	// top of the 512Mi that nobody's messages fill. 2Gi if left out.
	// +optional
	// +kubebuilder:default="2Gi"
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 0 && quantity(string(self)).asInteger() <= 70368744177664",message="must be a whole number of bytes from 0 to 64Ti, such as 2Gi"
	Disk *resource.Quantity `json:"disk,omitempty"`
}

// ClientLimits bound what a client may use, on each node. A client that spreads its requests over
// all nodes has that much on each of them.
type ClientLimits struct {
	// MessagesPerSecond that it may submit, 1 to 1000000. No limit if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MessagesPerSecond *int64 `json:"messagesPerSecond,omitempty"`

	// BytesPerSecond of messages that it may submit, 1Ki to 16Gi. No limit if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="isQuantity(self) && quantity(self).isInteger() && quantity(self).asInteger() >= 1024 && quantity(self).asInteger() <= 17179869184",message="must be a whole number of bytes from 1Ki to 16Gi, such as 2Mi"
	BytesPerSecond string `json:"bytesPerSecond,omitempty"`

	// BytesPerDay of messages that it may submit, 1Ki to 64Ti. Blocks are kept for ever, so that
	// this bounds how fast it fills the volumes. No limit if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="isQuantity(self) && quantity(self).isInteger() && quantity(self).asInteger() >= 1024 && quantity(self).asInteger() <= 70368744177664",message="must be a whole number of bytes from 1Ki to 64Ti, such as 5Gi"
	BytesPerDay string `json:"bytesPerDay,omitempty"`

	// Connections that it may have open, 1 to 1024. No limit of its own if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	Connections *int32 `json:"connections,omitempty"`

	// Streams that it may have open, 0 to 256; 0 is none. No limit of its own if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=256
	Streams *int32 `json:"streams,omitempty"`
}

// TokenIssuer signs JSON Web Tokens of clients.
//
// +kubebuilder:validation:XValidation:rule="has(self.kubernetes) != (has(self.issuer) || has(self.jwks))",message="must have either kubernetes, or issuer and jwks"
// +kubebuilder:validation:XValidation:rule="has(self.issuer) == has(self.jwks)",message="issuer and jwks go together: the name in the tokens, and the keys that verify them"
// +kubebuilder:validation:XValidation:rule="!has(self.kubernetes) || !has(self.claim) || self.claim == 'sub'",fieldPath=".claim",message="the tokens of ServiceAccounts name their account in the claim sub: leave claim out"
type TokenIssuer struct {
	// Name of the issuer, for spec.access.clients. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be a DNS label: lower-case letters, digits and '-'"
	Name string `json:"name"`

	// Kubernetes makes the cluster the issuer, for the tokens of its ServiceAccounts: kubernetes:
	// {}. The operator gives its public keys to the nodes, and follows their changes. Another
	// issuer if left out.
	// +optional
	Kubernetes *KubernetesIssuer `json:"kubernetes,omitempty"`

	// Issuer is the claim iss of its tokens, such as https://idp.example.com. None if left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Issuer string `json:"issuer,omitempty"`

	// Audiences are the claims aud that a node accepts, one of which a token must have. The id of
	// the chain (status.chainID) if left out. At most 8.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Audiences []string `json:"audiences,omitempty"`

	// JWKS names the file with its public keys, a JSON Web Key Set. The nodes read it again when it
	// changes. None if left out.
	// +optional
	JWKS *ConfigMapFile `json:"jwks,omitempty"`

	// Claim of the token that names the client. sub if left out.
	// +optional
	// +kubebuilder:default=sub
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Claim string `json:"claim,omitempty"`
}

// KubernetesIssuer is the cluster that the network runs in. It has no fields yet.
type KubernetesIssuer struct{}

// ConfigMapFile is a file in a ConfigMap of the namespace.
type ConfigMapFile struct {
	// ConfigMap with the file. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a ConfigMap: lower-case letters, digits, '-' and '.'"
	ConfigMap string `json:"configMap"`

	// Key of the file. jwks.json if left out.
	// +optional
	// +kubebuilder:default=jwks.json
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",message="must be a key of a ConfigMap: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// AccessClient is a client that the nodes know by name.
//
// +kubebuilder:validation:XValidation:rule="[has(self.certificate), has(self.serviceAccount), has(self.jwt), has(self.token)].filter(x, x).size() == 1",message="must have exactly one of certificate, serviceAccount, jwt and token: how the client proves who it is"
type AccessClient struct {
	// Name of the client, in audit lines and metrics. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be a DNS label: lower-case letters, digits and '-'"
	// +kubebuilder:validation:XValidation:rule="self != 'anonymous'",message="anonymous are the clients without a credential: see spec.access.anonymous"
	Name string `json:"name"`

	// Certificate is the client certificate that it shows. None if left out.
	// +optional
	Certificate *ClientCertificate `json:"certificate,omitempty"`

	// ServiceAccount is the account whose token it shows, of any namespace of this cluster. None if
	// left out.
	// +optional
	ServiceAccount *ClientServiceAccount `json:"serviceAccount,omitempty"`

	// JWT is the JSON Web Token that it shows. None if left out.
	// +optional
	JWT *ClientJWT `json:"jwt,omitempty"`

	// Token is the secret token that it shows. None if left out.
	// +optional
	Token *ClientToken `json:"token,omitempty"`

	// Allow is what it may do, of Submit, Read and Observe; [] is nothing. No default.
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:Enum=Submit;Read;Observe
	Allow []ClientRight `json:"allow"`

	// Limits of the client, on each node. Those of the node alone if left out.
	// +optional
	Limits *ClientLimits `json:"limits,omitempty"`
}

// ClientCertificate names a client by one name of its certificate.
//
// +kubebuilder:validation:XValidation:rule="[has(self.uri), has(self.dns), has(self.commonName)].filter(x, x).size() == 1",message="must have exactly one of uri, dns and commonName"
type ClientCertificate struct {
	// URI among the subject alternative names, such as spiffe://example.com/ledger. None if left
	// out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z][a-z0-9+.-]*:[!-~]+$')",message="must be a URI such as spiffe://example.com/ledger"
	URI string `json:"uri,omitempty"`

	// DNS is a name among the subject alternative names, if the certificate has no URI there. None
	// if left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be a DNS name in lower case, such as ledger.example.com"
	DNS string `json:"dns,omitempty"`

	// CommonName of the subject, if the certificate has no subject alternative names of these
	// kinds. None if left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	CommonName string `json:"commonName,omitempty"`
}

// ClientServiceAccount is a ServiceAccount of the cluster.
type ClientServiceAccount struct {
	// Namespace of the account. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower-case letters, digits and '-'"
	Namespace string `json:"namespace"`

	// Name of the account. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a ServiceAccount: lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
}

// ClientJWT is a JSON Web Token of one client.
type ClientJWT struct {
	// Issuer is the name of one of spec.access.issuers. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Issuer string `json:"issuer"`

	// Subject is the value of the issuer's claim. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Subject string `json:"subject"`
}

// ClientToken is a token in a Secret of the namespace. The nodes mount it, and read it again when
// it changes. The operator never reads its contents.
type ClientToken struct {
	// SecretName is the Secret with the token. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	SecretName string `json:"secretName"`

	// Key of the token. token if left out.
	// +optional
	// +kubebuilder:default=token
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",message="must be a key of a Secret: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// Audit says where the nodes write their audit lines.
type Audit struct {
	// Stderr writes them to the log of the node, one JSON object a line. False if left out.
	// +optional
	Stderr bool `json:"stderr,omitempty"`
}
