// Package e2e holds the operator to its promises on a real cluster: networks are applied as a user
// applies them, pods, processes, volumes and workers are taken away as they are in earnest, and
// what the nodes say is held against what clients were told.
//
// KUBECONFIG names the cluster, any one on which the images can be started; `make e2e` makes one of
// kind and takes it down again. The operator is installed with its chart. Every [Network] lives in
// a namespace of its own that enforces restricted Pod Security and ends with its test. An [Oracle]
// reads all blocks of all nodes, through every outage, and finds forks, changed, lost and repeated
// messages; a [Timeline] follows the pods and the resource by watching, so that nothing between two
// looks is missed.
//
// Nodes are reached through the API server's proxy, by the Service's or the pod's name: that works
// from wherever the API server can be reached, needs no second connection to be kept up, and picks
// among the endpoints that the Service has. It leaves out DNS, the Service's address and network
// policies. The pods of [Network.Client] use them: they run `diseq submit` as a user in the cluster
// does.
//
// The suite waits for conditions, with a deadline and the time that it took, and measures no speed
// against a limit, but one: a network is available within two minutes. E2E_KEEP=1 leaves the
// namespaces of failed tests.
//
//	KUBECONFIG       the cluster; required
//	E2E_HELM         the helm binary, default bin/tools/helm
//	E2E_CHART        the chart, default charts/diseq-operator
//	E2E_IMAGE        the nodes' image, default diseq:dev
//	E2E_NEXT_IMAGE   an image to update to, default diseq:dev2
//	E2E_VALUES       further arguments of helm, separated by spaces
//	E2E_ARTIFACTS    where the state of the cluster is written when a test fails, default bin/e2e
package e2e
