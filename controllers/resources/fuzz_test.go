package resources

import (
	"strconv"
	"strings"
	"testing"
)

// FuzzSerialOf reads any name of a validator, as a genesis document of somebody else may hold: it
// is a serial number's if and only if it is that number in decimal behind the network's name, as
// ValidatorName writes it.
//
// Promise 37.
func FuzzSerialOf(f *testing.F) {
	for _, name := range []string{"net-v0", "net-v17", "net-v007", "net-v+1", "net-v-1", "net-v", "net-v99999999999999999999", "other-v1", "net-v1_0", "net-v１"} {
		f.Add("net", name, 3)
	}
	f.Add("net-v1", "net-v1-v2", -1)
	f.Fuzz(func(t *testing.T, network, validator string, number int) {
		serial, ok := SerialOf(network, validator)
		digits := strings.TrimPrefix(validator, network+"-v")
		fit := len(digits) > 0 && len(digits)+len(network)+2 == len(validator) && strings.Trim(digits, "0123456789") == "" &&
			(digits == "0" || digits[0] != '0')
		if n, err := strconv.ParseInt(digits, 10, 0); ok != (fit && err == nil) || ok && int64(serial) != n || !ok && serial != 0 {
			t.Errorf("%q of network %q is validator %d (%v)", validator, network, serial, ok)
		}
		if back, ok := SerialOf(network, ValidatorName(network, number)); ok != (number >= 0) || ok && back != number {
			t.Errorf("validator %d of network %q is read as %d (%v)", number, network, back, ok)
		}
	})
}
