package v1alpha1

import (
	"encoding/json"
	"math/rand"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

func TestRoundTrip(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	codecs := serializer.NewCodecFactory(scheme)
	f := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), codecs)
	roundtrip.RoundTripSpecificKindWithoutProtobuf(t, GroupVersion.WithKind("DiseqNetwork"), scheme, codecs, f, nil)
}

func TestACopySharesNothing(t *testing.T) {
	const text = `{"spec":{"threshold":{"policy":"Fixed","value":3},"podTemplate":{"labels":{"a":"b"}}},"status":{"members":[{"name":"demo-v0"}]}}`
	var a DiseqNetwork
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	b := a.DeepCopy()
	*b.Spec.Threshold.Value, b.Spec.PodTemplate.Labels["a"], b.Status.Members[0].Name = 4, "c", "demo-v1"
	var unchanged DiseqNetwork
	if err := json.Unmarshal([]byte(text), &unchanged); err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(a, unchanged) {
		t.Errorf("changing the copy changed %+v", a)
	}
}

func TestThresholds(t *testing.T) {
	fixed := int32(4)
	for _, c := range []struct {
		threshold Threshold
		want      [8]int32 // of 1 to 8 validators
	}{
		{Threshold{}, [8]int32{1, 2, 2, 3, 3, 4, 4, 5}},
		{Threshold{Policy: ThresholdMajority}, [8]int32{1, 2, 2, 3, 3, 4, 4, 5}},
		{Threshold{Policy: ThresholdTwoThirds}, [8]int32{1, 2, 3, 3, 4, 5, 5, 6}},
		{Threshold{Policy: ThresholdFixed, Value: &fixed}, [8]int32{4, 4, 4, 4, 4, 4, 4, 4}},
	} {
		for i, want := range c.want {
			if got := c.threshold.ThresholdOf(int32(i) + 1); got != want {
				t.Errorf("%s of %d: %d, want %d", c.threshold.Policy, i+1, got, want)
			}
		}
	}
	for n := int32(1); n <= 100; n++ {
		for _, p := range []ThresholdPolicy{ThresholdMajority, ThresholdTwoThirds} {
			if got := (Threshold{Policy: p}).ThresholdOf(n); 2*got <= n || got > n {
				t.Errorf("%s of %d: %d is no majority of them", p, n, got)
			}
		}
	}
}
