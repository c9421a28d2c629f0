package resources

import (
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// File is a file that the nodes need for access, in an object that somebody else makes.
type File struct {
	// Field of the spec that names the object, without "spec.".
	Field string
	// Secret says that the object is a Secret, and not a ConfigMap.
	Secret bool
	// Name of the object, and the key of the file.
	Name, Key string
}

// RequiredFiles are the files without which the nodes do not start: their certificate, and the
// authorities of their clients. The pods wait for these. The tokens and the keys of issuers may
// come later.
func RequiredFiles(network *v1alpha1.DiseqNetwork) (out []File) {
	t := tlsOf(network)
	if t == nil {
		return nil
	}
	out = append(out, File{Field: "access.tls.secretName", Secret: true, Name: t.SecretName, Key: certificateFile})
	switch ca := t.ClientCA; {
	case ca == nil:
	case ca.ConfigMap != "":
		out = append(out, File{Field: "access.tls.clientCA.configMap", Name: ca.ConfigMap, Key: ca.Key})
	default:
		out = append(out, File{Field: "access.tls.clientCA.secretName", Secret: true, Name: ca.SecretName, Key: ca.Key})
	}
	return out
}

// accessSecrets are the Secrets that spec.access names.
func accessSecrets(network *v1alpha1.DiseqNetwork) (out []reference) {
	for _, f := range RequiredFiles(network) {
		if f.Secret {
			out = append(out, reference{f.Field, secretKind, f.Name})
		}
	}
	for _, c := range clientsOf(network) {
		if c.Token != nil {
			out = append(out, reference{"access.clients." + c.Name + ".token", secretKind, c.Token.SecretName})
		}
	}
	return out
}

func tlsOf(network *v1alpha1.DiseqNetwork) *v1alpha1.AccessTLS {
	if network.Spec.Access == nil {
		return nil
	}
	return network.Spec.Access.TLS
}

func clientsOf(network *v1alpha1.DiseqNetwork) []v1alpha1.AccessClient {
	if network.Spec.Access == nil {
		return nil
	}
	return network.Spec.Access.Clients
}

// accessVolumes are the volumes with the files for access. None has a subPath, so that the kubelet
// follows changes.
func accessVolumes(network *v1alpha1.DiseqNetwork) (out []*corev1ac.VolumeApplyConfiguration) {
	if t := tlsOf(network); t != nil {
		out = append(out, corev1ac.Volume().WithName(tlsVolume).WithSecret(corev1ac.SecretVolumeSource().
			WithSecretName(t.SecretName).WithDefaultMode(keyMode).
			WithItems(item(certificateFile, certificateFile), item(keyFile, keyFile))))
		if ca := t.ClientCA; ca != nil {
			to := corev1ac.Volume().WithName(clientCAVolume)
			if ca.ConfigMap != "" {
				to.WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(ca.ConfigMap).WithItems(item(ca.Key, clientCAFile)))
			} else {
				to.WithSecret(corev1ac.SecretVolumeSource().
					WithSecretName(ca.SecretName).WithDefaultMode(keyMode).WithItems(item(ca.Key, clientCAFile)))
			}
			out = append(out, to)
		}
	}
	if HasAccessFile(network) {
		out = append(out, corev1ac.Volume().WithName(accessVolume).
			WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(AccessName(network.Name))))
	}
	if tokens := tokenSources(network); len(tokens) > 0 {
		out = append(out, corev1ac.Volume().WithName(tokensVolume).
			WithProjected(corev1ac.ProjectedVolumeSource().WithDefaultMode(keyMode).WithSources(tokens...)))
	}
	if issuers := issuerSources(network); len(issuers) > 0 {
		out = append(out, corev1ac.Volume().WithName(issuersVolume).
			WithProjected(corev1ac.ProjectedVolumeSource().WithSources(issuers...)))
	}
	return out
}

// tokenSources are the tokens of clients. One that is missing keeps out its client, and nobody
// else.
func tokenSources(network *v1alpha1.DiseqNetwork) (out []*corev1ac.VolumeProjectionApplyConfiguration) {
	for _, c := range clientsOf(network) {
		if c.Token != nil {
			out = append(out, corev1ac.VolumeProjection().WithSecret(corev1ac.SecretProjection().
				WithName(c.Token.SecretName).WithOptional(true).WithItems(item(c.Token.Key, c.Name))))
		}
	}
	return out
}

// issuerSources are the keys of issuers, the cluster left out. Keys that are missing keep out the
// clients of their issuer, and nobody else.
func issuerSources(network *v1alpha1.DiseqNetwork) (out []*corev1ac.VolumeProjectionApplyConfiguration) {
	if network.Spec.Access == nil {
		return nil
	}
	for _, i := range network.Spec.Access.Issuers {
		if i.JWKS != nil {
			out = append(out, corev1ac.VolumeProjection().WithConfigMap(corev1ac.ConfigMapProjection().
				WithName(i.JWKS.ConfigMap).WithOptional(true).WithItems(item(i.JWKS.Key, i.Name))))
		}
	}
	return out
}

func item(key, path string) *corev1ac.KeyToPathApplyConfiguration {
	return corev1ac.KeyToPath().WithKey(key).WithPath(path)
}

// accessMounts mount the volumes for access.
func accessMounts(network *v1alpha1.DiseqNetwork) (out []*corev1ac.VolumeMountApplyConfiguration) {
	at := map[string]string{
		tlsVolume: tlsDir, clientCAVolume: clientCADir, accessVolume: accessDir, tokensVolume: tokensDir, issuersVolume: issuersDir,
	}
	for _, v := range accessVolumes(network) {
		out = append(out, corev1ac.VolumeMount().WithName(*v.Name).WithMountPath(at[*v.Name]).WithReadOnly(true))
	}
	return out
}
