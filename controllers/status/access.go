package status

import (
	"fmt"
	"time"

	"github.com/diseq/diseq/controllers/nodeclient"
)

// Access is what the operator knows of how the nodes admit clients.
type Access struct {
	// Asked says that the spec has access; OnNodes that the nodes themselves have to know of it, by
	// TLS or by an access file.
	Asked, OnNodes bool
	// File is the hash of the access file that the nodes are to have; empty if they need none.
	File string
	// Problem says why no pod can start with what the spec names; nil if it can.
	Problem *Problem
	// Cluster is about the keys of the cluster's tokens; nil if no client shows such tokens.
	Cluster *ClusterKeys
}

// ClusterKeys says what the operator has of the keys that verify the cluster's tokens.
type ClusterKeys struct {
	// Known says that the nodes have keys.
	Known bool
	// At is when the API server showed them; zero if it did not since the start of the operator.
	At time.Time
	// Err is why the API server did not show them last; empty if it did.
	Err string
}

const (
	// keysOld is for how long the keys of the cluster may not be shown before that counts as wrong.
	// The nodes go on with those that they have: a cluster changes its keys once in a while.
	keysOld = 30 * time.Minute
	// certificateEnds is the rest of a certificate's life that counts as its end, unless a fifth of
	// its life is shorter. Programs that renew certificates do so before.
	certificateEnds = 7 * 24 * time.Hour
)

// accessReady: clients are admitted as spec.access has it.
func accessReady(v view) verdict {
	a := v.Access
	switch {
	case !a.Asked:
		return yes(AccessOpen, "spec.access is not set: everybody who reaches the clients' port may submit and read")
	case a.Problem != nil:
		return no(a.Problem.Reason, "%s", a.Problem.Message)
	case a.Cluster != nil && !a.Cluster.Known:
		return no(ClusterKeysMissing, "the nodes refuse every token of a ServiceAccount, because the API server does not show the keys of its "+
			"tokens: %s. Bind the ClusterRole system:service-account-issuer-discovery to the operator's ServiceAccount", a.Cluster.Err)
	case v.hibernated():
		return yes(Hibernated, "no node runs; clients will be admitted as spec.access has it")
	}
	if !a.OnNodes {
		return yes(AccessAsSpecified, "a NetworkPolicy admits clients from the networks of spec.access; "+
			"those may submit and read without a credential")
	}
	if refused := v.accessOf(refusesFile); len(refused) > 0 {
		return no(AccessRefused, "%d nodes go on with what they had before: %s", len(refused), firstFew(refused))
	}
	if waiting := v.accessOf(lacksFile); len(waiting) > 0 {
		return no(AccessStarting, "%d of %d nodes do not admit clients as spec.access has it yet: %s", len(waiting), v.n, firstFew(waiting))
	}
	if ends := v.accessOf(certificateEnding); len(ends) > 0 {
		return no(CertificateExpiring, "%s. Renew the certificate in the Secret that spec.access.tls names: nodes load it within minutes",
			firstFew(ends))
	}
	if refused := v.accessOf(refusesClients); len(refused) > 0 {
		return no(ClientsRefused, "%s", firstFew(refused))
	}
	if c := a.Cluster; c != nil && c.Err != "" && v.Now.Sub(c.At) > keysOld {
		return no(ClusterKeysOld, "the API server has not shown the keys of its tokens for %v: %s. The nodes go on with those that they have, "+
			"and refuse tokens with newer keys", keysOld, c.Err)
	}
	return yes(AccessAsSpecified, "all %d nodes admit clients as spec.access has it", v.n)
}

// accessOf applies a check to the nodes of the set. wrong says what is wrong with one, as the end
// of a sentence that begins with its name; it is empty if nothing is.
func (v view) accessOf(wrong func(v view, a *nodeclient.Status) string) (texts []string) {
	for _, s := range v.standings {
		if !v.counted(s) {
			continue
		}
		if text := wrong(v, s.Answer); text != "" {
			texts = append(texts, s.Name+" "+text)
		}
	}
	return texts
}

// refusesFile: a node has read the newest files and cannot use them.
func refusesFile(v view, a *nodeclient.Status) string {
	switch {
	case a == nil || a.Access == nil:
		return ""
	case a.Access.Problem != "":
		return "refuses the new access file: " + a.Access.Problem
	case a.Access.Certificate != nil && a.Access.Certificate.Problem != "" && v.Now.UnixMilli() < a.Access.Certificate.NotAfter:
		return "refuses the new certificate: " + a.Access.Certificate.Problem
	}
	return ""
}

// lacksFile: a node runs without the access file that it is to have.
func lacksFile(v view, a *nodeclient.Status) string {
	switch {
	case a == nil:
		return "does not answer"
	case a.Access == nil:
		return "was not restarted with it"
	case a.Access.SHA256 != v.Access.File:
		return "has not read the new access file"
	}
	return ""
}

// certificateEnding: the certificate of a node has ended, or will soon.
func certificateEnding(v view, a *nodeclient.Status) string {
	if a == nil || a.Access == nil || a.Access.Certificate == nil {
		return ""
	}
	from, to := time.UnixMilli(a.Access.Certificate.NotBefore), time.UnixMilli(a.Access.Certificate.NotAfter)
	switch rest := to.Sub(v.Now); {
	case rest <= 0:
		return fmt.Sprintf("has a certificate that ended at %s, which clients refuse", to.UTC().Format(time.RFC3339))
	case rest < min(certificateEnds, to.Sub(from)/5):
		return fmt.Sprintf("has a certificate that ends at %s", to.UTC().Format(time.RFC3339))
	}
	return ""
}

// refusesClients: a node cannot use the token of a client, or the keys of an issuer.
func refusesClients(_ view, a *nodeclient.Status) string {
	if a == nil || a.Access == nil || len(a.Access.Problems) == 0 {
		return ""
	}
	return "refuses clients: " + firstFew(a.Access.Problems)
}
