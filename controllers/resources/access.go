package resources

import (
	"encoding/json"
	"fmt"
	"path"

	"k8s.io/apimachinery/pkg/api/resource"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/access"
)

// Where a node finds what it needs to know its clients. Each is the root of a volume, so that the
// kubelet follows changes.
const (
	tlsDir      = "/etc/diseq/tls"
	clientCADir = "/etc/diseq/client-ca"
	accessDir   = "/etc/diseq/access"
	tokensDir   = "/etc/diseq/tokens"
	issuersDir  = "/etc/diseq/issuers"
)

// Files of those directories. Those of a Secret for TLS have the names that Kubernetes gives them.
const (
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
	clientCAFile    = "ca.crt"
)

// Volumes for access. No volume of the spec has a name that begins so.
const (
	tlsVolume      = "diseq-tls"
	clientCAVolume = "diseq-client-ca"
	accessVolume   = "diseq-access"
	tokensVolume   = "diseq-tokens"
	issuersVolume  = "diseq-issuers"
)

// ClusterIssuer is the cluster as an issuer of tokens: the claim iss of its ServiceAccounts'
// tokens, and the keys that verify them, a JSON Web Key Set.
type ClusterIssuer struct {
	Issuer string
	JWKS   []byte
}

// HasAccessFile says whether the nodes of a network read an access file. Without one they admit
// everybody.
func HasAccessFile(network *v1alpha1.DiseqNetwork) bool {
	a := network.Spec.Access
	return a != nil && (a.Anonymous != nil || len(a.Issuers) > 0 || len(a.Clients) > 0 || a.Audit != nil ||
		a.TLS != nil && a.TLS.ClientCA != nil)
}

// OnNodes says whether the nodes of a network do more than to admit everybody without TLS.
func OnNodes(network *v1alpha1.DiseqNetwork) bool {
	return HasAccessFile(network) || tlsOf(network) != nil
}

// WantsClusterIssuer says whether clients of a network may show tokens of the cluster's
// ServiceAccounts.
func WantsClusterIssuer(network *v1alpha1.DiseqNetwork) bool { return clusterIssuer(network) != "" }

// clusterIssuer is the name of the issuer that is the cluster; empty if there is none.
func clusterIssuer(network *v1alpha1.DiseqNetwork) string {
	if network.Spec.Access != nil {
		for _, i := range network.Spec.Access.Issuers {
			if i.Kubernetes != nil {
				return i.Name
			}
		}
	}
	return ""
}

// AccessFile is the access file of the nodes. Without the keys of the cluster, cluster is nil: the
// file then leaves out the issuer and its clients, whose tokens the nodes refuse.
func AccessFile(network *v1alpha1.DiseqNetwork, cluster *ClusterIssuer) (*access.File, error) {
	from := network.Spec.Access
	if from == nil {
		from = &v1alpha1.Access{}
	}
	file := &access.File{Anonymous: access.Anonymous{Allow: access.Rights}}
	if a := from.Anonymous; a != nil {
		file.Anonymous = access.Anonymous{Allow: rights(a.Allow), Limits: limits(a.Limits), Total: limits(a.Total)}
	}
	if s := from.Reserve.Share; s != nil {
		file.Reserve.Share = new(uint64(*s))
	}
	file.Reserve.Disk = bytesIn(from.Reserve.Disk)
	if from.Audit != nil {
		file.Audit.Stderr = from.Audit.Stderr
	}
	for _, i := range from.Issuers {
		to := access.Issuer{Name: i.Name, Issuer: i.Issuer, Audiences: i.Audiences, JWKSFile: path.Join(issuersDir, i.Name), Claim: i.Claim}
		if i.Kubernetes != nil {
			if cluster == nil {
				continue
			}
			to.Issuer, to.JWKSFile, to.Claim = cluster.Issuer, ClusterKeysKey, ""
		}
		file.Issuers = append(file.Issuers, to)
	}
	for _, c := range from.Clients {
		to := access.Client{Name: c.Name, Allow: rights(c.Allow), Limits: limits(c.Limits)}
		switch {
		case c.Certificate != nil:
			to.Certificate = &access.Certificate{URI: c.Certificate.URI, DNS: c.Certificate.DNS, CommonName: c.Certificate.CommonName}
		case c.Token != nil:
			to.Token = &access.Token{File: path.Join(tokensDir, c.Name)}
		case c.JWT != nil:
			to.JWT = &access.JWT{Issuer: c.JWT.Issuer, Subject: c.JWT.Subject}
		case c.ServiceAccount != nil:
			to.JWT = &access.JWT{
				Issuer:  clusterIssuer(network),
				Subject: "system:serviceaccount:" + c.ServiceAccount.Namespace + ":" + c.ServiceAccount.Name,
			}
		}
		if cluster == nil && to.JWT != nil && to.JWT.Issuer == clusterIssuer(network) {
			continue
		}
		file.Clients = append(file.Clients, to)
	}
	if err := file.Validate(); err != nil {
		return nil, fmt.Errorf("spec.access: %w", err)
	}
	return file, nil
}

// AccessConfigMap is the ConfigMap with the access file, and the keys of the cluster.
func AccessConfigMap(network *v1alpha1.DiseqNetwork, cluster *ClusterIssuer) (*corev1ac.ConfigMapApplyConfiguration, error) {
	file, err := AccessFile(network, cluster)
	if err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", AccessKey, err)
	}
	data := map[string]string{AccessKey: string(raw) + "\n"}
	if cluster != nil && WantsClusterIssuer(network) {
		data[ClusterKeysKey] = string(cluster.JWKS)
	}
	return owned(network, networkLabels(network.Name),
		corev1ac.ConfigMap(AccessName(network.Name), network.Namespace).
			WithAnnotations(map[string]string{AccessAnnotation: textHash(data[AccessKey] + data[ClusterKeysKey])}).
			WithData(data)), nil
}

// IssuerIn is the cluster as an issuer, from the data of the ConfigMap of the access file; nil if
// they do not have it.
func IssuerIn(data map[string]string) *ClusterIssuer {
	file, err := access.Parse([]byte(data[AccessKey]))
	if err != nil || data[ClusterKeysKey] == "" {
		return nil
	}
	for _, i := range file.Issuers {
		if i.JWKSFile == ClusterKeysKey {
			return &ClusterIssuer{Issuer: i.Issuer, JWKS: []byte(data[ClusterKeysKey])}
		}
	}
	return nil
}

func rights(from []v1alpha1.ClientRight) []access.Right {
	out := make([]access.Right, 0, len(from))
	for _, r := range from {
		out = append(out, access.Right(r))
	}
	return out
}

func limits(from *v1alpha1.ClientLimits) access.Limits {
	if from == nil {
		return access.Limits{}
	}
	return access.Limits{
		MessagesPerSecond: unsigned(from.MessagesPerSecond),
		BytesPerSecond:    bytesOfText(from.BytesPerSecond), BytesPerDay: bytesOfText(from.BytesPerDay),
		Connections: unsigned(from.Connections), Streams: unsigned(from.Streams),
	}
}

func unsigned[N int32 | int64](from *N) *uint64 {
	if from == nil {
		return nil
	}
	return new(uint64(max(0, *from)))
}

func bytesIn(from *resource.Quantity) *access.Bytes {
	if from == nil {
		return nil
	}
	return new(access.Bytes(from.Value()))
}

// bytesOfText reads a number of bytes. The API server takes no text that is none; a text that is
// none all the same becomes a limit that no file may have.
func bytesOfText(from string) *access.Bytes {
	if from == "" {
		return nil
	}
	q, err := resource.ParseQuantity(from)
	if err != nil {
		return new(access.Bytes(0))
	}
	return bytesIn(&q)
}
