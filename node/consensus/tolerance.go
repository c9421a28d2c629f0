package consensus

// FaultTolerance is the number of faulty validators that a set withstands (docs/consensus.md, what
// it promises).
type FaultTolerance struct {
	// Crash is how many validators may be down while blocks still become final.
	Crash int `json:"crash"`
	// Byzantine is how many may be Byzantine while correct validators agree on any network.
	Byzantine int `json:"byzantine"`
	// ByzantineWithSynchrony is the same with the synchrony wait, while messages arrive within its
	// Delta; validators that are cut off count as Byzantine.
	ByzantineWithSynchrony int `json:"byzantine_with_synchrony"`

	n, t int
}

// Tolerance returns the figures of n validators with threshold t, n/2 < t <= n. All are zero for
// any other n and t.
func Tolerance(n, t int) FaultTolerance {
	if n < 1 || t > n || 2*t <= n {
		return FaultTolerance{}
	}
	return FaultTolerance{Crash: n - t, Byzantine: 2*t - n - 1, ByzantineWithSynchrony: t - 1, n: n, t: t}
}

// AtStrength returns how many validators may be Byzantine, on any network, before a reader who
// insists on a finalization of at least s votes can be shown two blocks at one height. Below the
// threshold nothing is final: 0.
func (f FaultTolerance) AtStrength(s int) int {
	if s < f.t {
		return 0
	}
	return max(0, min(s, f.n)+f.t-f.n-1)
}
