package resources

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzSerialOf reads any name of a validator, as a genesis document of somebody else may hold: it
// is a serial number's if and only if it is that number in decimal behind the network's name, as
// ValidatorName writes it, and no larger than the largest one.
//
// Promise 37.
func FuzzSerialOf(f *testing.F) {
	for _, name := range []string{"net-v0", "net-v17", "net-v007", "net-v+1", "net-v-1", "net-v", "net-v99999999999999999999",
		"net-v999999999", "net-v1000000000", "net-v9999999999999", "other-v1", "net-v1_0", "net-v１"} {
		f.Add("net", name, 3)
	}
	f.Add("net-v1", "net-v1-v2", -1)
	f.Add("net", "net-v1", maxSerial)
	f.Add("net", "net-v1", maxSerial+1)
	f.Fuzz(func(t *testing.T, network, validator string, number int) {
		serial, ok := SerialOf(network, validator)
		digits := strings.TrimPrefix(validator, network+"-v")
		fit := len(digits) > 0 && len(digits)+len(network)+2 == len(validator) && strings.Trim(digits, "0123456789") == "" &&
			(digits == "0" || digits[0] != '0')
		if n, err := strconv.ParseInt(digits, 10, 0); ok != (fit && err == nil && n <= maxSerial) || ok && int64(serial) != n || !ok && serial != 0 {
			t.Errorf("%q of network %q is validator %d (%v)", validator, network, serial, ok)
		}
		if back, ok := SerialOf(network, ValidatorName(network, number)); ok != (number >= 0 && number <= maxSerial) || ok && back != number {
			t.Errorf("validator %d of network %q is read as %d (%v)", number, network, back, ok)
		}
	})
}

// FuzzImagesOf takes any image that a spec may name: by default it is allowed if and only if it is
// of the repository of the operator's own image, as a registry's client reads names. Text before
// the first slash that has a colon is a registry.
//
// Promise 88.
func FuzzImagesOf(f *testing.F) {
	for _, image := range []string{
		"diseq", "diseq:v1", "diseq:v1@sha256:00", "diseq@sha256:00", "diseq:5000/evil", "diseq@evil/x", "diseq-evil", "diseq/evil", "evil/diseq", "diseq:",
		"diseq:v1@", "diseq:v1:v2", "diseq:v1\nevil", "r.example/diseq:v1", "r.example:5000/diseq", "r.example:5000/diseq:v1", "rxexample/diseq",
	} {
		f.Add("diseq:dev", image)
		f.Add("r.example:5000/diseq@sha256:00", image)
	}
	f.Fuzz(func(t *testing.T, own, image string) {
		if !imageName.MatchString(own) {
			return
		}
		allowed, err := Images(ImagesOf(own))
		if err != nil {
			t.Fatalf("%q: %v", own, err)
		}
		want := imageName.MatchString(image) && repositoryOf(image) == repositoryOf(own)
		if got := allowed.MatchString(image); got != want {
			t.Errorf("with %q, %q is allowed: %t, want %t", own, image, got, want)
		}
		if !allowed.MatchString(own) {
			t.Errorf("%q is not allowed itself", own)
		}
	})
}

// imageName is the name of an image: an optional registry, a path, an optional tag and digest.
var imageName = regexp.MustCompile(`^(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@[a-z0-9]+:[0-9a-f]+)?$`)

func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	head, last := image[:strings.LastIndex(image, "/")+1], image[strings.LastIndex(image, "/")+1:]
	last, _, _ = strings.Cut(last, ":")
	return head + last
}
