package resources

import (
	"encoding/json"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/access"
)

var testCluster = &ClusterIssuer{Issuer: "https://kubernetes.default.svc", JWKS: []byte(`{"keys":[{"kid":"a"}]}`)}

// closed is access with a client of each kind.
func closed() *v1alpha1.Access {
	return &v1alpha1.Access{
		TLS:      &v1alpha1.AccessTLS{SecretName: "demo-tls", MinVersion: "1.2", ClientCA: &v1alpha1.ClientCA{ConfigMap: "demo-client-ca", Key: "bundle.pem"}},
		Networks: []v1alpha1.NetworkPeer{{IPBlock: &v1alpha1.IPBlock{CIDR: "192.0.2.0/24"}}},
		Anonymous: &v1alpha1.AnonymousClients{
			Allow:  []v1alpha1.ClientRight{v1alpha1.ReadRight},
			Limits: &v1alpha1.ClientLimits{Connections: new(int32(4)), Streams: new(int32(0))}, Total: &v1alpha1.ClientLimits{Streams: new(int32(8))},
		},
		Issuers: []v1alpha1.TokenIssuer{
			{Name: "cluster", Kubernetes: &v1alpha1.KubernetesIssuer{}, Claim: "sub"},
			{Name: "corp", Issuer: "https://idp.example.com", Audiences: []string{"demo"}, JWKS: &v1alpha1.ConfigMapFile{ConfigMap: "corp", Key: "keys"}, Claim: "email"},
		},
		Clients: []v1alpha1.AccessClient{
			{Name: "payments", ServiceAccount: &v1alpha1.ClientServiceAccount{Namespace: "pay", Name: "api"}, Allow: []v1alpha1.ClientRight{v1alpha1.SubmitRight},
				Limits: &v1alpha1.ClientLimits{MessagesPerSecond: new(int64(100)), BytesPerSecond: "2Mi", BytesPerDay: "5Gi"}},
			{Name: "ledger", Certificate: &v1alpha1.ClientCertificate{URI: "spiffe://example.com/ledger"}, Allow: []v1alpha1.ClientRight{v1alpha1.SubmitRight, v1alpha1.ReadRight}},
			{Name: "partner", JWT: &v1alpha1.ClientJWT{Issuer: "corp", Subject: "partner-1"}, Allow: []v1alpha1.ClientRight{}},
			{Name: "auditor", Token: &v1alpha1.ClientToken{SecretName: "demo-auditor", Key: "t"}, Allow: []v1alpha1.ClientRight{v1alpha1.ObserveRight}},
		},
		Reserve: v1alpha1.Reserve{Share: new(int32(50)), Disk: bytesOf(4 << 30)},
		Audit:   &v1alpha1.Audit{Stderr: true},
	}
}

func appliedSet(t *testing.T, network *v1alpha1.DiseqNetwork) *appsv1ac.StatefulSetApplyConfiguration {
	t.Helper()
	return must[*appsv1ac.StatefulSetApplyConfiguration](t)(StatefulSet(network, testOperator, 0, false))
}

func withAccess(a *v1alpha1.Access) *v1alpha1.DiseqNetwork {
	network := newNetwork("demo")
	network.Spec.Access = a
	return network
}

// A network without access is made of the same bytes as before there was any.
func TestWithoutAccessNothingChanges(t *testing.T) {
	network := newNetwork("demo")
	config := must[string](t)(NodeConfig(network))
	if strings.Contains(config, "tls") || strings.Contains(config, "access") {
		t.Errorf("node.yaml:\n%s", config)
	}
	if HasAccessFile(network) || OnNodes(network) || WantsClusterIssuer(network) || len(RequiredFiles(network)) > 0 || References(network) {
		t.Error("the network has access that nobody asked for")
	}
	only := withAccess(&v1alpha1.Access{Networks: []v1alpha1.NetworkPeer{{IPBlock: &v1alpha1.IPBlock{CIDR: "192.0.2.0/24"}}}})
	if a, b := statefulSet(t, network), statefulSet(t, only); !reflect.DeepEqual(a.Spec.Template, b.Spec.Template) {
		t.Error("the networks of clients restart the pods")
	}
}

// The nodes read what the operator writes, and in it is what the spec says.
func TestTheAccessFileHasWhatTheSpecSays(t *testing.T) {
	network := withAccess(closed())
	configMap := must[*corev1ac.ConfigMapApplyConfiguration](t)(AccessConfigMap(network, testCluster))
	file, err := access.Parse([]byte(configMap.Data[AccessKey]))
	if err != nil {
		t.Fatal(err)
	}
	megabytes, day, disk := access.Bytes(2<<20), access.Bytes(5<<30), access.Bytes(4<<30)
	want := &access.File{
		Anonymous: access.Anonymous{
			Allow: []access.Right{access.Read}, Limits: access.Limits{Connections: new(uint64(4)), Streams: new(uint64(0))},
			Total: access.Limits{Streams: new(uint64(8))},
		},
		Issuers: []access.Issuer{
			{Name: "cluster", Issuer: testCluster.Issuer, JWKSFile: "cluster.jwks.json"},
			{Name: "corp", Issuer: "https://idp.example.com", Audiences: []string{"demo"}, JWKSFile: "/etc/diseq/issuers/corp", Claim: "email"},
		},
		Clients: []access.Client{
			{Name: "payments", JWT: &access.JWT{Issuer: "cluster", Subject: "system:serviceaccount:pay:api"}, Allow: []access.Right{access.Submit},
				Limits: access.Limits{MessagesPerSecond: new(uint64(100)), BytesPerSecond: &megabytes, BytesPerDay: &day}},
			{Name: "ledger", Certificate: &access.Certificate{URI: "spiffe://example.com/ledger"}, Allow: []access.Right{access.Submit, access.Read}},
			{Name: "partner", JWT: &access.JWT{Issuer: "corp", Subject: "partner-1"}},
			{Name: "auditor", Token: &access.Token{File: "/etc/diseq/tokens/auditor"}, Allow: []access.Right{access.Observe}},
		},
		Reserve: access.Reserve{Share: new(uint64(50)), Disk: &disk},
		Audit:   access.Audit{Stderr: true},
	}
	if !reflect.DeepEqual(file, want) {
		t.Errorf("the file is\n%s", configMap.Data[AccessKey])
	}
	if configMap.Data[ClusterKeysKey] != string(testCluster.JWKS) {
		t.Errorf("the keys of the cluster are %q", configMap.Data[ClusterKeysKey])
	}
	if back := IssuerIn(configMap.Data); !reflect.DeepEqual(back, testCluster) {
		t.Errorf("the cluster is read back as %+v", back)
	}
	other := &ClusterIssuer{Issuer: testCluster.Issuer, JWKS: []byte(`{"keys":[{"kid":"b"}]}`)}
	if rotated := must[*corev1ac.ConfigMapApplyConfiguration](t)(AccessConfigMap(network, other)); rotated.Annotations[AccessAnnotation] == configMap.Annotations[AccessAnnotation] {
		t.Error("new keys do not change the hash by which kubelets look at the files")
	}
}

// Without the keys of the cluster nobody is let in by them, and everybody else is.
//
// Promise 87.
func TestWithoutTheKeysOfTheClusterItsClientsAreLeftOut(t *testing.T) {
	file := must[*access.File](t)(AccessFile(withAccess(closed()), nil))
	var names []string
	for _, c := range file.Clients {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, []string{"ledger", "partner", "auditor"}) || len(file.Issuers) != 1 || file.Issuers[0].Name != "corp" {
		t.Errorf("clients %v of issuers %+v", names, file.Issuers)
	}
	if keys := must[*corev1ac.ConfigMapApplyConfiguration](t)(AccessConfigMap(withAccess(closed()), nil)).Data[ClusterKeysKey]; keys != "" {
		t.Errorf("keys %q", keys)
	}
}

func TestAnonymousClientsMayDoWhatTheSpecSays(t *testing.T) {
	for name, tt := range map[string]struct {
		access *v1alpha1.Access
		want   []access.Right
	}{
		"no access":        {nil, access.Rights},
		"nothing said":     {&v1alpha1.Access{Audit: &v1alpha1.Audit{Stderr: true}}, access.Rights},
		"nothing allowed":  {&v1alpha1.Access{Anonymous: &v1alpha1.AnonymousClients{}}, nil},
		"reading":          {&v1alpha1.Access{Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{v1alpha1.ReadRight}}}, []access.Right{access.Read}},
		"nothing but TLS ": {&v1alpha1.Access{TLS: &v1alpha1.AccessTLS{SecretName: "demo-tls"}}, access.Rights},
	} {
		raw := must[*corev1ac.ConfigMapApplyConfiguration](t)(AccessConfigMap(withAccess(tt.access), nil)).Data[AccessKey]
		file := must[*access.File](t)(access.Parse([]byte(raw)))
		if !slices.Equal(file.Anonymous.Allow, tt.want) {
			t.Errorf("%s: %v, want %v", name, file.Anonymous.Allow, tt.want)
		}
	}
}

// A file that a node would refuse is a mistake in the spec that the rules of the resource leave.
func TestASpecThatNoNodeTakesIsRefused(t *testing.T) {
	a := closed()
	a.Clients[2].JWT = &v1alpha1.ClientJWT{Issuer: "cluster", Subject: "system:serviceaccount:pay:api"}
	_, err := AccessConfigMap(withAccess(a), testCluster)
	if err == nil || !strings.HasPrefix(err.Error(), "spec.access: clients[2]: partner proves to be itself in the same way as payments") {
		t.Errorf("got %v", err)
	}
}

// Every file that node.yaml and the access file name is in a volume of the pod, and no volume has a
// subPath: a kubelet does not follow changes of those.
func TestEveryFileOfAccessIsMounted(t *testing.T) {
	network := withAccess(closed())
	var config struct {
		TLS    struct{ Certificate, Key, ClientCA, MinVersion string }
		Access string
	}
	if err := yaml.Unmarshal([]byte(must[string](t)(NodeConfig(network))), &config); err != nil {
		t.Fatal(err)
	}
	if config.TLS.MinVersion != "1.2" {
		t.Errorf("TLS %+v", config.TLS)
	}
	file := must[*access.File](t)(AccessFile(network, testCluster))
	needed := []string{config.TLS.Certificate, config.TLS.Key, config.TLS.ClientCA, config.Access}
	for _, i := range file.Issuers {
		if !path.IsAbs(i.JWKSFile) {
			i.JWKSFile = path.Join(path.Dir(config.Access), i.JWKSFile)
		}
		needed = append(needed, i.JWKSFile)
	}
	for _, c := range file.Clients {
		if c.Token != nil {
			needed = append(needed, c.Token.File)
		}
	}
	pod := statefulSet(t, network).Spec.Template.Spec
	mounted := map[string]string{} // by path: the object and the key
	optional := map[string]bool{}
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.SubPath != "" {
			t.Errorf("%s has a subPath", m.Name)
		}
		for _, v := range pod.Volumes {
			if v.Name != m.Name || !strings.HasPrefix(m.MountPath, "/etc/diseq/") {
				continue
			}
			if !m.ReadOnly {
				t.Errorf("the node may write to %s", m.MountPath)
			}
			add := func(kind, name string, items []corev1.KeyToPath, may *bool) {
				for _, i := range items {
					mounted[path.Join(m.MountPath, i.Path)] = kind + " " + name + " " + i.Key
					optional[path.Join(m.MountPath, i.Path)] = may != nil && *may
				}
			}
			switch {
			case v.Secret != nil:
				if v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440 {
					t.Errorf("files of %s have the mode %v", v.Name, v.Secret.DefaultMode)
				}
				add("Secret", v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
			case v.ConfigMap != nil && v.ConfigMap.Name == AccessName("demo"):
				for key := range must[*corev1ac.ConfigMapApplyConfiguration](t)(AccessConfigMap(network, testCluster)).Data {
					add("ConfigMap", v.ConfigMap.Name, []corev1.KeyToPath{{Key: key, Path: key}}, nil)
				}
			case v.ConfigMap != nil:
				add("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
			case v.Projected != nil:
				for _, s := range v.Projected.Sources {
					if s.Secret != nil {
						add("Secret", s.Secret.Name, s.Secret.Items, s.Secret.Optional)
					} else {
						add("ConfigMap", s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
					}
				}
			}
		}
	}
	want := map[string]string{
		"/etc/diseq/tls/tls.crt":              "Secret demo-tls tls.crt",
		"/etc/diseq/tls/tls.key":              "Secret demo-tls tls.key",
		"/etc/diseq/client-ca/ca.crt":         "ConfigMap demo-client-ca bundle.pem",
		"/etc/diseq/access/access.json":       "ConfigMap demo-access access.json",
		"/etc/diseq/access/cluster.jwks.json": "ConfigMap demo-access cluster.jwks.json",
		"/etc/diseq/issuers/corp":             "ConfigMap corp keys",
		"/etc/diseq/tokens/auditor":           "Secret demo-auditor t",
	}
	if !reflect.DeepEqual(mounted, want) {
		t.Errorf("mounted is %v", mounted)
	}
	for _, file := range needed {
		if mounted[file] == "" {
			t.Errorf("%s is not mounted", file)
		}
	}
	// A client whose token is missing keeps no pod from starting.
	for file, may := range optional {
		if wants := strings.HasPrefix(file, tokensDir) || strings.HasPrefix(file, issuersDir); may != wants {
			t.Errorf("%s is optional: %v", file, may)
		}
	}
	var waits []string
	for _, f := range RequiredFiles(network) {
		waits = append(waits, f.Name+" "+f.Key)
	}
	if !slices.Equal(waits, []string{"demo-tls tls.crt", "demo-client-ca bundle.pem"}) {
		t.Errorf("the pods wait for %v", waits)
	}
	network.Spec.Access.TLS.ClientCA = &v1alpha1.ClientCA{SecretName: "ca", Key: "ca.crt"}
	if f := RequiredFiles(network)[1]; !f.Secret || f.Name != "ca" {
		t.Errorf("the pods wait for %+v", f)
	}
}

// A change of who may come in restarts no pod. A change of what is mounted does.
func TestOnlyWhatIsMountedRestartsThePods(t *testing.T) {
	base := TemplateOf(appliedSet(t, withAccess(closed())))
	for name, tt := range map[string]struct {
		change   func(*v1alpha1.Access)
		restarts bool
	}{
		"a quota":            {func(a *v1alpha1.Access) { a.Clients[0].Limits.BytesPerDay = "6Gi" }, false},
		"a right":            {func(a *v1alpha1.Access) { a.Clients[0].Allow = nil }, false},
		"a client that goes": {func(a *v1alpha1.Access) { a.Clients = slices.Delete(a.Clients, 0, 1) }, false},
		"anonymous clients":  {func(a *v1alpha1.Access) { a.Anonymous.Allow = nil }, false},
		"networks":           {func(a *v1alpha1.Access) { a.Networks = nil }, false},
		"audit":              {func(a *v1alpha1.Access) { a.Audit = nil }, false},
		"an audience":        {func(a *v1alpha1.Access) { a.Issuers[1].Audiences = nil }, false},
		"a token more": {func(a *v1alpha1.Access) {
			a.Clients[2].JWT, a.Clients[2].Token = nil, &v1alpha1.ClientToken{SecretName: "p", Key: "t"}
		}, true},
		"other keys":    {func(a *v1alpha1.Access) { a.Issuers[1].JWKS.ConfigMap = "other" }, true},
		"a certificate": {func(a *v1alpha1.Access) { a.TLS.SecretName = "other" }, true},
		"no TLS":        {func(a *v1alpha1.Access) { a.TLS = nil }, true},
	} {
		a := closed()
		tt.change(a)
		if got := TemplateOf(appliedSet(t, withAccess(a))); (got != base) != tt.restarts {
			t.Errorf("%s: restarts %v, want %v", name, got != base, tt.restarts)
		}
	}
}

// A pod gets no Secret with the keys of a validator as a certificate or a token.
//
// Promise 87.
func TestAccessCannotNameTheKeysOfAValidator(t *testing.T) {
	for field, change := range map[string]func(*v1alpha1.Access){
		"access.tls.secretName":          func(a *v1alpha1.Access) { a.TLS.SecretName = "other-v1" },
		"access.tls.clientCA.secretName": func(a *v1alpha1.Access) { a.TLS.ClientCA = &v1alpha1.ClientCA{SecretName: "other-v1"} },
		"access.clients.auditor.token":   func(a *v1alpha1.Access) { a.Clients[3].Token.SecretName = "other-v1" },
	} {
		a := closed()
		change(a)
		network := withAccess(a)
		err := CheckReferences(network, []string{"demo", "other"})
		if err == nil || !strings.Contains(err.Error(), "spec."+field+" names the Secret other-v1, which holds the keys of a validator of network other") {
			t.Errorf("%s: %v", field, err)
		}
		if !References(network) {
			t.Errorf("%s: the networks of the namespace are not looked at", field)
		}
	}
}

func TestTheServiceSaysThatItsPortIsTLS(t *testing.T) {
	for want, network := range map[string]*v1alpha1.DiseqNetwork{"http": newNetwork("demo"), "https": withAccess(closed())} {
		raw := must[[]byte](t)(json.Marshal(ClientsService(network)))
		var service corev1.Service
		if err := json.Unmarshal(raw, &service); err != nil {
			t.Fatal(err)
		}
		if got := service.Spec.Ports[0].AppProtocol; got == nil || *got != want {
			t.Errorf("appProtocol %v, want %s", got, want)
		}
	}
}
