// Package e2e holds the operator to its promises on a real cluster: it applies networks as a user
// does, takes away pods, processes, volumes and workers as failures do, and compares the blocks of
// the nodes with the answers that clients got.
//
// KUBECONFIG names the cluster, any one on which the images can be started; `make e2e` makes one of
// kind and takes it down again. The operator is installed with its chart. Every [Network] lives in
// a namespace of its own that enforces restricted Pod Security and ends with its test. An [Oracle]
// reads all blocks of all nodes, through every outage, and finds forks, changed, lost and repeated
// messages; a [Timeline] watches the pods and the resource, so that it misses no change.
//
// Tests reach nodes through the API server's proxy, by the name of the Service or of the pod. The
// proxy works from wherever the API server can be reached, keeps no second connection, and picks
// among the endpoints of the Service. It leaves out DNS, the Service's address and network
// policies. The pods of [Network.Client] test these: they run `diseq submit` as a user in the
// cluster does.
//
// The suite waits for conditions, each with a deadline, and logs how long each took. It has one
// limit of speed: a network is available within two minutes. E2E_KEEP=1 leaves the
// namespaces of failed tests.
//
//	KUBECONFIG       the cluster; required
//	E2E_HELM         the helm binary, default bin/tools/helm
//	E2E_PLUGIN       the plugin of kubectl, default bin/kubectl-diseq
//	E2E_CHART        the chart, default charts/diseq-operator
//	E2E_IMAGE        the nodes' image, default diseq:dev
//	E2E_NEXT_IMAGE   an image to update to, default diseq:dev2
//	E2E_VALUES       further arguments of helm, separated by spaces
//	E2E_ARTIFACTS    where the state of the cluster is written when a test fails, default bin/e2e
package e2e
