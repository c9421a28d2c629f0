package integration

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/test/integration/harness"
)

// written is a network as a user writes it: what the spec leaves out is absent, which a Go value
// cannot say of every field.
func written(t *testing.T, namespace, name, spec string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DiseqNetwork"))
	u.SetNamespace(namespace)
	u.SetName(name)
	if spec != "" {
		set(t, u, spec)
	}
	return u
}

// set replaces the spec.
func set(t *testing.T, u *unstructured.Unstructured, spec string) {
	t.Helper()
	parsed := map[string]any{}
	if err := yaml.Unmarshal([]byte(spec), &parsed); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	u.Object["spec"] = parsed
}

// typed converts what the API server answered.
func typed(t *testing.T, u *unstructured.Unstructured) *v1alpha1.DiseqNetwork {
	t.Helper()
	n := &v1alpha1.DiseqNetwork{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, n); err != nil {
		t.Fatal(err)
	}
	return n
}

// strictly makes a misspelt field an error, as kubectl does.
var strictly = client.FieldValidation(metav1.FieldValidationStrict)

// expect fails unless err is what want says: nil for the empty string, else an error that has every
// part of want, which are separated by " ... ".
func expect(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("accepted, want an error with %q", want)
	}
	for part := range strings.SplitSeq(want, " ... ") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("want %q in the error:\n%v", part, err)
		}
	}
	for _, noise := range []string{"evaluating rule", "no such key", "no such overload"} {
		if strings.Contains(err.Error(), noise) {
			t.Errorf("a rule fails instead of answering: %v", err)
		}
	}
}

// retired are names of n validators.
func retired(n int) (names []string) {
	for serial := range n {
		names = append(names, fmt.Sprintf("demo-v%d", serial))
	}
	return names
}

// Promise 55.
func TestEveryRuleOfANewNetworkIsHeldWithAMessageThatHelps(t *testing.T) {
	const (
		badThreshold = "spec.threshold.value: Invalid value: threshold "
		wholeBytes   = "must be a whole number of bytes from "
		delta        = "must be a duration of whole milliseconds from 10ms to 1m, such as 100ms, or 0s for no synchrony wait"
		reserved     = " belong to the operator: choose another prefix"
		ofTheNode    = "data, keys, genesis, config, peers, scratch and names that begin with diseq- are volumes of the node"
		loadBalancer = " needs type LoadBalancer: set the type, or leave it out"
		atNodes      = " needs type NodePort or LoadBalancer: set the type, or leave it out"
		collectors   = " ... must be the URL of a collector such as http://otel-collector.observability.svc:4318"
	)
	for _, c := range []struct{ rule, spec, want string }{
		{"one validator", "validators: 1", ""},
		{"a hundred validators", "validators: 100", ""},
		{"no validator", "validators: 0", "spec.validators: Invalid value: 0 ... greater than or equal to 1"},
		{"fewer than none", "validators: -1", "spec.validators ... greater than or equal to 1"},
		{"too many validators", "validators: 101", "spec.validators: Invalid value: 101 ... less than or equal to 100"},
		{"no number of validators", "validators: four", "spec.validators ... integer"},

		{"nobody to retire", "retire: []", ""},
		{"validators to retire", "retire: [demo-v0, demo-v12]", ""},
		{"one that is not there", "retire: [demo-v999999999]", ""},
		{"one to retire twice", "retire: [demo-v0, demo-v0]", `spec.retire[1]: Duplicate value: "demo-v0"`},
		{"a pod to retire", "retire: [demo-v0-0]", "spec.retire[0]: Invalid value ... must be the name of a validator, such as demo-v2: status.members lists them"},
		{"a number to retire", "retire: [2]", "spec.retire[0] ... string"},
		{"a number with a nought before it", "retire: [demo-v01]", "spec.retire[0] ... must be the name of a validator"},
		{"nothing to retire", `retire: [""]`, "spec.retire[0] ... must be the name of a validator"},
		{"one of another network", "retire: [orders-v2]", "spec.retire: Invalid value ... must name validators of this network, such as those that status.members lists"},
		{"a name too long", "retire: [" + strings.Repeat("a", 62) + "-v0]", "spec.retire[0]: Too long: may not be more than 63"},
		{"more to retire than a set can have", "retire: [" + strings.Join(retired(101), ", ") + "]", "spec.retire: Too many: 101: must have at most 100 items"},
		{"as many to retire as a set can have", "retire: [" + strings.Join(retired(100), ", ") + "]", ""},

		{"majority", "threshold: {policy: Majority}", ""},
		{"two thirds", "{validators: 100, threshold: {policy: TwoThirds}}", ""},
		{"two thirds of one", "{validators: 1, threshold: {policy: TwoThirds}}", ""},
		{"an unknown policy", "threshold: {policy: Most}", `"Most": supported values: "Majority", "TwoThirds", "Fixed"`},
		{"the least fixed threshold of an even number", "threshold: {policy: Fixed, value: 3}", ""},
		{"half of an even number", "threshold: {policy: Fixed, value: 2}", badThreshold + "2 with 4 validators ... allowed are 3 to 4"},
		{"the least fixed threshold of an odd number", "{validators: 5, threshold: {policy: Fixed, value: 3}}", ""},
		{"less than half of an odd number", "{validators: 5, threshold: {policy: Fixed, value: 2}}", badThreshold + "2 with 5 validators ... allowed are 3 to 5"},
		{"all of them", "threshold: {policy: Fixed, value: 4}", ""},
		{"more than all of them", "threshold: {policy: Fixed, value: 5}", badThreshold + "5 with 4 validators ... allowed are 3 to 4"},
		{"one of one", "{validators: 1, threshold: {policy: Fixed, value: 1}}", ""},
		{"a hundred of a hundred", "{validators: 100, threshold: {policy: Fixed, value: 100}}", ""},
		{"half of a hundred", "{validators: 100, threshold: {policy: Fixed, value: 50}}", "allowed are 51 to 100"},
		{"a threshold of none", "threshold: {policy: Fixed, value: 0}", "spec.threshold.value ... greater than or equal to 1"},
		{"fixed without a value", "threshold: {policy: Fixed}", "spec.threshold.value: Required value: policy Fixed needs a value: more than half of spec.validators"},
		{"a value without a policy", "threshold: {value: 3}", "spec.threshold.value: Forbidden: a value needs policy Fixed: set policy: Fixed"},
		{"a value with another policy", "threshold: {policy: TwoThirds, value: 3}", "spec.threshold.value: Forbidden"},

		{"no drain", "service: {drain: 0s}", ""},
		{"the longest drain", "service: {drain: 10m}", ""},
		{"a drain of more than ten minutes", "service: {drain: 10m1s}", "spec.service.drain ... 0s to 10m"},
		{"a drain without a unit", "service: {drain: '10'}", "spec.service.drain ... 0s to 10m"},
		{"a drain of half a second", "service: {drain: 500ms}", "spec.service.drain ... 0s to 10m"},
		{"no interval", "consensus: {minBlockInterval: 0s}", ""},
		{"no interval, without a unit", `consensus: {minBlockInterval: "0"}`, ""},
		{"the longest interval", "consensus: {minBlockInterval: 60s}", ""},
		{"the longest interval as Go writes it", "consensus: {minBlockInterval: 1m0s}", ""},
		{"a fraction of a second", "consensus: {minBlockInterval: 1.125s}", ""},
		{"an interval too long", "consensus: {minBlockInterval: 60001ms}", "spec.consensus.minBlockInterval ... whole milliseconds from 0s to 1m, such as 20ms"},
		{"microseconds", "consensus: {minBlockInterval: 20us}", "whole milliseconds from 0s to 1m"},
		{"a fraction of a millisecond", "consensus: {minBlockInterval: 1.0005s}", "whole milliseconds from 0s to 1m"},
		{"an interval below nothing", "consensus: {minBlockInterval: -1s}", "whole milliseconds from 0s to 1m"},
		{"an interval without a unit", `consensus: {minBlockInterval: "20"}`, "whole milliseconds from 0s to 1m, such as 20ms"},
		{"an empty interval", `consensus: {minBlockInterval: ""}`, "whole milliseconds from 0s to 1m"},
		{"an interval that is a number", "consensus: {minBlockInterval: 20}", "spec.consensus.minBlockInterval ... string"},
		{"the shortest epoch", "consensus: {beaconInterval: 1}", ""},
		{"the longest epoch", "consensus: {beaconInterval: 1048576}", ""},
		{"no epoch", "consensus: {beaconInterval: 0}", "spec.consensus.beaconInterval ... greater than or equal to 1"},
		{"an epoch too long", "consensus: {beaconInterval: 1048577}", "spec.consensus.beaconInterval ... less than or equal to 1048576"},

		{"the shortest synchrony wait", "consensus: {synchrony: {delta: 10ms}}", ""},
		{"the longest synchrony wait", "consensus: {synchrony: {delta: 1m}}", ""},
		{"the longest synchrony wait in seconds", "consensus: {synchrony: {delta: 60s}}", ""},
		{"a synchrony wait of a fraction of a second", "consensus: {synchrony: {delta: 0.25s}}", ""},
		{"no synchrony wait, spelt out", "consensus: {synchrony: {delta: 0s}}", ""},
		{"no synchrony wait, without a unit", `consensus: {synchrony: {delta: "0"}}`, ""},
		{"a synchrony wait that is longer than the interval", "consensus: {minBlockInterval: 0s, synchrony: {delta: 1m}}", ""},
		{"a synchrony wait too short", "consensus: {synchrony: {delta: 9ms}}", "spec.consensus.synchrony.delta: Invalid value ... " + delta},
		{"a synchrony wait too long", "consensus: {synchrony: {delta: 60001ms}}", "spec.consensus.synchrony.delta ... " + delta},
		{"a synchrony wait below nothing", "consensus: {synchrony: {delta: -100ms}}", delta},
		{"a synchrony wait of half a millisecond more", "consensus: {synchrony: {delta: 0.0105s}}", delta},
		{"a synchrony wait in microseconds", "consensus: {synchrony: {delta: 20000us}}", delta},
		{"a synchrony wait without a unit", `consensus: {synchrony: {delta: "100"}}`, delta},
		{"an empty synchrony wait", `consensus: {synchrony: {delta: ""}}`, delta},
		{"a synchrony wait that is a number", "consensus: {synchrony: {delta: 100}}", "spec.consensus.synchrony.delta ... string"},
		{"a synchrony wait without its delta", "consensus: {synchrony: {}}", "spec.consensus.synchrony.delta: Required value"},
		{"a synchrony wait that is a duration", "consensus: {synchrony: 100ms}", "spec.consensus.synchrony ... object"},
		{"a misspelt delta", "consensus: {synchrony: {delta: 100ms, detla: 1s}}", `unknown field "spec.consensus.synchrony.detla"`},

		{"the smallest messages", "messages: {maxBytes: 1, maxBlockBytes: 9}", ""},
		{"the largest messages", "messages: {maxBytes: 4Mi, maxBlockBytes: 16Mi}", ""},
		{"a number written as one", "messages: {maxBytes: 65536}", ""},
		{"a fraction of a unit", "messages: {maxBytes: 0.5Ki}", wholeBytes + "1 to 4Mi, such as 65536 or 64Ki"},
		{"messages of nothing", "messages: {maxBytes: 0}", "spec.messages.maxBytes ... " + wholeBytes + "1 to 4Mi, such as 65536 or 64Ki"},
		{"messages too large", "messages: {maxBytes: 4194305, maxBlockBytes: 16Mi}", "spec.messages.maxBytes ... " + wholeBytes + "1 to 4Mi"},
		{"a tenth of a byte", "messages: {maxBytes: 100m}", `"100m": ` + wholeBytes},
		{"a unit that is none", "messages: {maxBytes: 4MB}", `"4MB": ` + wholeBytes},
		{"bytes beyond any number", "messages: {maxBytes: 100E}", `"100E": ` + wholeBytes},
		{"bytes below nothing", "messages: {maxBytes: -1}", wholeBytes},
		{"a block for exactly one message", "messages: {maxBytes: 64Ki, maxBlockBytes: 65544}", ""},
		{"a block too small for a message", "messages: {maxBytes: 64Ki, maxBlockBytes: 65543}", "spec.messages.maxBlockBytes ... a block must hold the largest message and the 8 bytes beside it: allowed is maxBytes + 8 or more"},
		{"messages too large for the default block", "messages: {maxBytes: 4Mi}", "spec.messages.maxBlockBytes ... allowed is maxBytes + 8 or more"},
		{"blocks too large", "messages: {maxBlockBytes: 16777217}", "spec.messages.maxBlockBytes ... " + wholeBytes + "9 to 16Mi"},
		{"half a byte of block", `messages: {maxBlockBytes: "100000.5"}`, "spec.messages.maxBlockBytes ... " + wholeBytes},
		{"the smallest pool", "{validators: 1, messages: {maxPoolBytes: 1Mi}}", ""},
		{"the largest pool", "messages: {maxPoolBytes: 64Gi}", ""},
		{"a pool too small", "messages: {maxPoolBytes: 1048575}", "spec.messages.maxPoolBytes ... " + wholeBytes + "1Mi to 64Gi, such as 256Mi"},
		{"a pool too large", "messages: {maxPoolBytes: 65Gi}", "spec.messages.maxPoolBytes ... " + wholeBytes + "1Mi to 64Gi"},
		{"a third of a byte of pool", `messages: {maxPoolBytes: "1048577.3"}`, "spec.messages.maxPoolBytes ... " + wholeBytes},
		{"a pool with room for a message of each validator", "{validators: 100, messages: {maxPoolBytes: 6963200}}", ""},
		{"a pool without that room", "{validators: 100, messages: {maxPoolBytes: 6963199}}", "spec.messages.maxPoolBytes ... each of the 100 validators ... allowed are 6963200 bytes or more"},

		{"the smallest volume", "storage: {size: 1Gi}", ""},
		{"a volume too small", "storage: {size: 1073741823}", "spec.storage.size ... " + wholeBytes + "1Gi on, such as 10Gi"},
		{"a volume whose unit is forgotten", "storage: {size: 10}", "spec.storage.size: Invalid value: 10: " + wholeBytes + "1Gi on"},
		{"a volume with a unit that is none", "storage: {size: 10GB}", `spec.storage.size: Invalid value: "10GB": ` + wholeBytes},
		{"a storage class", "storage: {storageClassName: fast-ssd.example.com}", ""},
		{"the default storage class", `storage: {storageClassName: ""}`, ""},
		{"a storage class that cannot be", "storage: {storageClassName: Fast_SSD}", "spec.storage.storageClassName ... must be the name of a StorageClass: lower-case"},
		{"an access mode for one pod", "storage: {accessMode: ReadWriteOncePod}", ""},
		{"an access mode for many", "storage: {accessMode: ReadWriteMany}", `supported values: "ReadWriteOnce", "ReadWriteOncePod"`},
		{"retention", "storage: {retention: {onScaleDown: Delete, onDelete: Delete}}", ""},
		{"a retention that is none", "storage: {retention: {onDelete: Keep}}", `spec.storage.retention.onDelete ... supported values: "Retain", "Delete"`},
		{"another retention that is none", "storage: {retention: {onScaleDown: Keep}}", `spec.storage.retention.onScaleDown ... supported values: "Retain", "Delete"`},

		{"an image", "image: registry.example.com:5000/a/diseq@sha256:0123", ""},
		{"no image", `image: ""`, ""},
		{"an image with a scheme", "image: docker://diseq:dev", "spec.image ... must be an image reference such as registry.example.com/diseq:v1, without spaces and without a scheme"},
		{"an image with a space", `image: "diseq:dev "`, "spec.image ... without spaces"},
		{"an image with a line break", `image: "diseq:dev\n"`, "spec.image ... without spaces"},
		{"an image too long", "image: " + strings.Repeat("a", 513), "spec.image: Too long: may not be more than 512"},
		{"a pull policy", "imagePullPolicy: Always", ""},
		{"a pull policy that is none", "imagePullPolicy: Sometimes", `supported values: "Always", "IfNotPresent", "Never"`},
		{"pull secrets", "imagePullSecrets: [{name: a}, {name: b}]", ""},
		{"a pull secret twice", "imagePullSecrets: [{name: a}, {name: a}]", "spec.imagePullSecrets[1]: Duplicate value"},

		{"a load balancer", "service: {type: LoadBalancer, annotations: {example.com/internal: 'true'}}", ""},
		{"a node port", "service: {type: NodePort}", ""},
		{"a service that is none", "service: {type: ExternalName}", `supported values: "ClusterIP", "NodePort", "LoadBalancer"`},
		{"a service annotation that cannot be", "service: {annotations: {'a b': c}}", "spec.service.annotations ... an annotation has a name such as team or example.com/team"},
		{"no monitoring", "monitoring: {enabled: false}", ""},

		{"labels and annotations", "podTemplate: {labels: {team: a, example.com/team: ''}, annotations: {example.com/why: a b c}}", ""},
		{"a class of the cluster's own pods", "podTemplate: {priorityClassName: system-node-critical}", "spec.podTemplate.priorityClassName ... classes that begin with system- are for the cluster's own pods"},
		{"a label of ours", "podTemplate: {labels: {diseq.io/network: a}}", "spec.podTemplate.labels ... labels under diseq.io/ and app.kubernetes.io/" + reserved},
		{"a well-known label", "podTemplate: {labels: {app.kubernetes.io/name: a}}", "spec.podTemplate.labels ..." + reserved},
		{"a label that cannot be", "podTemplate: {labels: {'a b': c}}", "spec.podTemplate.labels ... a label has a name such as team or example.com/team"},
		{"a label too long", "podTemplate: {labels: {a: " + strings.Repeat("a", 64) + "}}", "a value of at most 63 characters"},
		{"an annotation of ours", "podTemplate: {annotations: {diseq.io/config: a}}", "spec.podTemplate.annotations ... annotations under diseq.io/" + reserved},
		{"an annotation that cannot be", "podTemplate: {annotations: {'/a': b}}", "spec.podTemplate.annotations ... an annotation has a name"},
		{"a role in a cloud", "podTemplate: {serviceAccountAnnotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::1:role/a'}}", ""},
		{"an annotation of ours on the account", "podTemplate: {serviceAccountAnnotations: {diseq.io/applied: a}}", "spec.podTemplate.serviceAccountAnnotations ... annotations under diseq.io/" + reserved},
		{"a node selector", "podTemplate: {nodeSelector: {kubernetes.io/arch: arm64}}", ""},
		{"a node selector that cannot be", "podTemplate: {nodeSelector: {'a b': c}}", "spec.podTemplate.nodeSelector ... a label has a name"},
		{"resources", `podTemplate: {resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: "0.5", memory: 1Gi}}}`, ""},
		{"limits alone", "podTemplate: {resources: {limits: {memory: 1Gi}}}", ""},
		{"requests alone", "podTemplate: {resources: {requests: {cpu: 1}}}", ""},
		{"more CPU than the limit", "podTemplate: {resources: {requests: {cpu: 2}, limits: {cpu: 1999m}}}", "spec.podTemplate.resources ... a request must not be more than its limit"},
		{"more memory than the limit", "podTemplate: {resources: {requests: {memory: 1Gi}, limits: {memory: 1G}}}", "a request must not be more than its limit"},
		{"an amount that is none", "podTemplate: {resources: {requests: {cpu: 1x}, limits: {cpu: 1}}}", "spec.podTemplate.resources.requests.cpu"},

		{"variables", "podTemplate: {env: [{name: A}, {name: B_1.c, value: $(A)}, {name: C, valueFrom: {secretKeyRef: {name: s, key: k}}}]}", ""},
		{"a variable of ours", "podTemplate: {env: [{name: DISEQ_A, value: b}]}", "spec.podTemplate.env ... variables that begin with DISEQ_ belong to the operator: choose another name"},
		{"a variable twice", "podTemplate: {env: [{name: A}, {name: A}]}", "spec.podTemplate.env[1]: Duplicate value"},
		{"a variable that cannot be", "podTemplate: {env: [{name: 1A}]}", "spec.podTemplate.env[0].name ... must consist of letters, digits, '_', '-' and '.', and not begin with a digit"},
		{"a variable with two values", "podTemplate: {env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}", "a variable has a value or valueFrom, not both"},
		{"a variable from nowhere", "podTemplate: {env: [{name: A, valueFrom: {}}]}", "spec.podTemplate.env[0].valueFrom ... must have exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef"},

		{"ids of a platform", "podTemplate: {securityContext: {ids: Platform, supplementalGroups: [5], seLinuxOptions: {level: 's0:c1'}}}", ""},
		{"ids of a platform and others", "podTemplate: {securityContext: {ids: Platform, runAsUser: 5}}", "spec.podTemplate.securityContext ... with ids: Platform the platform assigns the ids: leave runAsUser, runAsGroup and fsGroup out, or set ids: Fixed"},
		{"ids of one's own", "podTemplate: {securityContext: {runAsUser: 1000650000, runAsGroup: 0, fsGroup: 1000650000, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}}", ""},
		{"root", "podTemplate: {securityContext: {runAsUser: 0}}", "spec.podTemplate.securityContext.runAsUser ... greater than or equal to 1"},
		{"root by another name", "podTemplate: {securityContext: {runAsNonRoot: false}}", "must be true: the pods keep to the restricted Pod Security Standard"},
		{"no seccomp", "podTemplate: {securityContext: {seccompProfile: {type: Unconfined}}}", `supported values: "RuntimeDefault", "Localhost"`},
		{"seccomp without its profile", "podTemplate: {securityContext: {seccompProfile: {type: Localhost}}}", "type Localhost needs localhostProfile"},
		{"an SELinux type that is not restricted", "podTemplate: {securityContext: {seLinuxOptions: {type: spc_t}}}", `supported values: "container_t"`},

		{"a sidecar", "podTemplate: {containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {}}]}", ""},
		{"a native sidecar", "podTemplate: {initContainers: [{name: a, image: b, restartPolicy: Always}]}", ""},
		{"a container that is restarted", "podTemplate: {containers: [{name: a, image: b, restartPolicy: Always}]}", "spec.podTemplate.containers ... restartPolicy is for initContainers"},
		{"a sidecar without an image", "podTemplate: {containers: [{name: a}]}", "spec.podTemplate.containers[0].image: Required value"},
		{"a sidecar with the name of the node", "podTemplate: {containers: [{name: node, image: b}]}", "spec.podTemplate.containers[0].name ... the name node belongs to the operator: choose another"},
		{"a sidecar twice", "podTemplate: {containers: [{name: a, image: b}, {name: a, image: b}]}", "spec.podTemplate.containers[1]: Duplicate value"},
		{"two with one name", "podTemplate: {initContainers: [{name: a, image: b}], containers: [{name: a, image: b}]}", "spec.podTemplate.initContainers ... a name is taken by one of spec.podTemplate.containers"},
		{"too many sidecars", "podTemplate: {containers: [" + strings.Repeat("{name: a, image: b}, ", 9) + "]}", "spec.podTemplate.containers: Too many: 9: must have at most 8 items"},
		{"a privileged sidecar", "podTemplate: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}", "securityContext.privileged ... must be false: the pods keep to the restricted"},
		{"a sidecar that escalates", "podTemplate: {initContainers: [{name: a, image: b, securityContext: {allowPrivilegeEscalation: true}}]}", "securityContext.allowPrivilegeEscalation ... must be false"},
		{"a sidecar as root", "podTemplate: {containers: [{name: a, image: b, securityContext: {runAsUser: 0}}]}", "securityContext.runAsUser ... greater than or equal to 1"},
		{"a sidecar with the network in its hands", "podTemplate: {containers: [{name: a, image: b, securityContext: {capabilities: {add: [NET_ADMIN]}}}]}", `supported values: "NET_BIND_SERVICE"`},
		{"a sidecar on the host's network", "podTemplate: {hostNetwork: true}", `unknown field "spec.podTemplate.hostNetwork"`},
		{"a sidecar with a port of the host", "podTemplate: {containers: [{name: a, image: b, ports: [{containerPort: 1, hostPort: 1}]}]}", "unknown field ... hostPort"},
		{"a sidecar at the port of the node", "podTemplate: {containers: [{name: a, image: b, ports: [{containerPort: 9090}]}]}", "ports[0].containerPort ... 8080, 7700, 9090 and 9091 belong to the node"},
		{"a sidecar with the port name of the node", "podTemplate: {containers: [{name: a, image: b, ports: [{containerPort: 1, name: http}]}]}", "ports[0].name ... http, peer, operations and probes are the node's ports"},
		{"a probe of two kinds", "podTemplate: {containers: [{name: a, image: b, livenessProbe: {exec: {command: [a]}, grpc: {port: 1}}}]}", "livenessProbe ... must have exactly one of exec, httpGet, tcpSocket and grpc"},
		{"a hook of no kind", "podTemplate: {containers: [{name: a, image: b, lifecycle: {preStop: {}}}]}", "preStop ... must have exactly one of exec, httpGet and sleep"},
		{"the keys in a sidecar", "podTemplate: {containers: [{name: a, image: b, volumeMounts: [{name: keys, mountPath: /k}]}]}", "volumeMounts[0].name ... " + ofTheNode + ", which no other container may mount"},
		{"the chain in a sidecar", "podTemplate: {initContainers: [{name: a, image: b, volumeMounts: [{name: data, mountPath: /d}]}]}", "volumeMounts[0].name ... " + ofTheNode},
		{"a volume that is not there", "podTemplate: {containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}]}", "spec.podTemplate.containers ... every volumeMount must name a volume of spec.podTemplate.volumes"},
		{"a volume of the node that is not there", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: w, mountPath: /v}]}", "spec.podTemplate.volumeMounts ... every volumeMount must name a volume"},
		{"a volume in place of the node's", "podTemplate: {volumes: [{name: data, emptyDir: {}}]}", "spec.podTemplate.volumes[0].name ... " + ofTheNode + ": choose another name"},
		{"a volume of two kinds", "podTemplate: {volumes: [{name: v, emptyDir: {}, configMap: {name: a}}]}", "spec.podTemplate.volumes[0] ... must have exactly one of configMap, secret, emptyDir"},
		{"a volume of no kind", "podTemplate: {volumes: [{name: v}]}", "must have exactly one of"},
		{"a volume of the host", "podTemplate: {volumes: [{name: v, hostPath: {path: /}}]}", "unknown field ... hostPath"},
		{"the keys of a validator", "podTemplate: {volumes: [{name: v, secret: {secretName: demo-v0}}]}", "spec.podTemplate.volumes ... the Secrets of validators hold their keys, which only the node of that validator may read"},
		{"the keys of a validator among others", "podTemplate: {volumes: [{name: v, projected: {sources: [{configMap: {name: a}}, {secret: {name: demo-v12}}]}}]}", "the Secrets of validators hold their keys"},
		{"the claim of a validator", "podTemplate: {volumes: [{name: v, persistentVolumeClaim: {claimName: demo-v1}}]}", "spec.podTemplate.volumes ... the claims of validators hold their votes, which only the node of that validator may change"},
		{"a Secret with a name like that", "podTemplate: {volumes: [{name: v, secret: {secretName: demo-vault}}, {name: w, secret: {secretName: demo-vault-v2}}, {name: x, secret: {secretName: tls-v2}}]}", ""},
		{"mounts of the node", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /etc/ssl/certs}, {name: v, mountPath: /.a/data, subPath: a/b}]}", ""},
		{"a mount over the chain", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /data}]}", "spec.podTemplate.volumeMounts ... belong to the node: mount at another path"},
		{"a mount in the keys", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /etc/diseq/keys/x}]}", "belong to the node: mount at another path"},
		{"a mount over the program", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /diseq}]}", "belong to the node: mount at another path"},
		{"a mount over all configuration", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /etc}]}", "belong to the node: mount at another path"},
		{"a mount over everything", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /}]}", "must be an absolute path such as /etc/proxy"},
		{"a mount by a detour", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /x/../data}]}", "without . and .. and without / at the end"},
		{"a mount with two slashes", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: //data}]}", "must be an absolute path"},
		{"a path out of the volume", "podTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /v, subPath: a/../../b}]}", "subPath ... must be a relative path without .."},

		{"a node port of one's own", "service: {type: NodePort, nodePort: 30080, externalTrafficPolicy: Local}", ""},
		{"a node port of a cluster address", "service: {nodePort: 30080}", "spec.service.nodePort ... a nodePort needs type NodePort or LoadBalancer"},
		{"a node port that is none", "service: {type: NodePort, nodePort: 65536}", "spec.service.nodePort ... less than or equal to 65535"},
		{"a policy without traffic from outside", "service: {externalTrafficPolicy: Local}", "spec.service.externalTrafficPolicy ... externalTrafficPolicy" + atNodes},
		{"everything of a load balancer", "service: {type: LoadBalancer, loadBalancerClass: example.com/lb, loadBalancerSourceRanges: [192.0.2.0/24, '2001:db8::/32'], allocateLoadBalancerNodePorts: false}", ""},
		{"a class without a load balancer", "service: {type: NodePort, loadBalancerClass: a}", "spec.service.loadBalancerClass ... loadBalancerClass" + loadBalancer},
		{"a class that cannot be", "service: {type: LoadBalancer, loadBalancerClass: a b}", "spec.service.loadBalancerClass ... must be a name such as internal or example.com/internal"},
		{"ranges without a load balancer", "service: {loadBalancerSourceRanges: [192.0.2.0/24]}", "spec.service.loadBalancerSourceRanges ... loadBalancerSourceRanges" + loadBalancer},
		{"a range that is none", "service: {type: LoadBalancer, loadBalancerSourceRanges: [192.0.2.0]}", "spec.service.loadBalancerSourceRanges[0] ... must be a range of addresses such as 192.0.2.0/24"},
		{"ports of nodes without a load balancer", "service: {allocateLoadBalancerNodePorts: true}", "allocateLoadBalancerNodePorts" + loadBalancer},
		{"two families", "service: {ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv4]}", ""},
		{"two families, and a policy of one", "service: {ipFamilyPolicy: SingleStack, ipFamilies: [IPv6, IPv4]}", "spec.service.ipFamilies ... two families need ipFamilyPolicy: PreferDualStack or RequireDualStack"},
		{"one family twice", "service: {ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv6]}", "spec.service.ipFamilies ... must name each family once"},
		{"an affinity that is none", "service: {sessionAffinity: Cookie}", `supported values: "None", "ClientIP"`},
		{"a service label of ours", "service: {labels: {diseq.io/network: a}}", "spec.service.labels ... labels under diseq.io/ and app.kubernetes.io/" + reserved},
		{"a service annotation of ours", "service: {annotations: {diseq.io/applied: a}}", "spec.service.annotations ... annotations under diseq.io/" + reserved},
		{"unrestricted egress", "networkPolicy: {egress: Unrestricted}", ""},
		{"an egress that is none", "networkPolicy: {egress: All}", `supported values: "Restricted", "Unrestricted"`},

		{"traces", "tracing: {endpoint: 'http://otel-collector.observability.svc:4318', samplingRatePerMillion: 10000, networks: [{podSelector: {}}]}", ""},
		{"traces that clients ask for, on another path", "tracing: {endpoint: 'https://collector.example.com/otlp'}", ""},
		{"traces to an address", "tracing: {endpoint: 'http://[2001:db8::1]:65535'}", ""},
		{"traces to nowhere", "tracing: {samplingRatePerMillion: 1}", "spec.tracing.endpoint ... Required"},
		{"traces to no URL", "tracing: {endpoint: 'otel:4318'}", "spec.tracing.endpoint" + collectors},
		{"traces by gRPC", "tracing: {endpoint: 'grpc://otel:4317'}", "spec.tracing.endpoint" + collectors},
		{"traces without a host", "tracing: {endpoint: 'http://:4318'}", "spec.tracing.endpoint" + collectors},
		{"traces with a password", "tracing: {endpoint: 'http://a:b@otel:4318'}", "spec.tracing.endpoint" + collectors},
		{"traces with a query", "tracing: {endpoint: 'http://otel:4318?a=b'}", "spec.tracing.endpoint" + collectors},
		{"traces to no port", "tracing: {endpoint: 'http://otel:65536'}", "spec.tracing.endpoint" + collectors},
		{"more traces than messages", "tracing: {endpoint: 'http://otel:4318', samplingRatePerMillion: 1000001}", "spec.tracing.samplingRatePerMillion ... less than or equal to 1000000"},
		{"a collector nowhere", "tracing: {endpoint: 'http://otel:4318', networks: [{}]}", "spec.tracing.networks[0] ... must have either ipBlock"},

		{"paused", "paused: true", ""},
		{"a misspelt field", "validator: 7", `unknown field "spec.validator"`},
		{"a number where there are fields", "threshold: 3", "spec.threshold ... object"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			u := written(t, shared(t), "demo", c.spec)
			expect(t, harness.Client(t).Create(t.Context(), u, client.DryRunAll, strictly), c.want)
		})
	}
}

func TestNamesLeaveRoomForTheNamesMadeFromThem(t *testing.T) {
	for name, want := range map[string]string{
		"a":                              "",
		"a-1":                            "",
		strings.Repeat("a", 40):          "",
		strings.Repeat("a", 41):          "metadata.name must have at most 40 characters: the names of pods and volumes are made from it",
		"1a":                             "metadata.name must be a DNS-1035 label: lower-case letters, digits and '-', a letter first",
		"a.b":                            "metadata.name must be a DNS-1035 label",
		"demo-peers":                     "metadata.name must not end in -peers: another network's Service could have that name",
		"Demo":                           "metadata.name",
		"a-":                             "metadata.name",
		strings.Repeat("a.", 20):         "metadata.name",
		"peers":                          "",
		"demo-peers-1":                   "",
		"demo-v0":                        "",
		strings.Repeat("a", 35) + "-b-c": "",
	} {
		t.Run(name, func(t *testing.T) {
			u := written(t, shared(t), name, "")
			expect(t, harness.Client(t).Create(t.Context(), u, client.DryRunAll, strictly), want)
		})
	}
}

func TestDefaultsAreInTheSchema(t *testing.T) {
	const defaults = `
imagePullPolicy: IfNotPresent
existingObjects: Refuse
validators: 4
threshold: {policy: Majority}
consensus: {minBlockInterval: 20ms, beaconInterval: 128}
messages: {maxBytes: "65536", maxBlockBytes: 4Mi, maxPoolBytes: 256Mi}
storage: {size: 10Gi, storageClassName: "", accessMode: ReadWriteOnce, retention: {onScaleDown: Retain, onDelete: Retain}}
service: {drain: 10s, explorer: true, type: ClusterIP}
networkPolicy: {egress: Restricted}
monitoring: {enabled: true}
podTemplate: {}
`
	var want map[string]any
	if err := yaml.Unmarshal([]byte(defaults), &want); err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]string{
		"no spec":       "",
		"an empty spec": "{}",
		"empty parts": "{threshold: {}, consensus: {}, messages: {}, storage: {retention: {}}, service: {}, networkPolicy: {}, monitoring: {}, " +
			"podTemplate: {}}",
		"nulls": "{validators: null, threshold: null, consensus: {minBlockInterval: null}, messages: {maxBytes: null}, storage: {size: null}, " +
			"podTemplate: {resources: null}}",
	} {
		t.Run(name, func(t *testing.T) {
			u := written(t, shared(t), "demo", spec)
			if err := harness.Client(t).Create(t.Context(), u, client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			got, _ := yaml.Marshal(u.Object["spec"])
			wanted, _ := yaml.Marshal(want)
			if string(got) != string(wanted) {
				t.Errorf("got\n%s\nwant\n%s", got, wanted)
			}
		})
	}
}

func TestAPartOfTheResourcesTakesNoDefault(t *testing.T) {
	u := written(t, shared(t), "demo", "podTemplate: {resources: {limits: {memory: 1Gi}}}")
	if err := harness.Client(t).Create(t.Context(), u, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if r := typed(t, u).Spec.PodTemplate.Resources; len(r.Requests) != 0 || r.Limits.Memory().String() != "1Gi" {
		t.Errorf("got %+v", r)
	}
}
