package access

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// taken takes and reports how long the refusal asks to wait, 0 if there is none.
func taken(t *testing.T, u *usage, messages, size int) time.Duration {
	t.Helper()
	_, err := u.take(time.Now(), messages, size)
	if err == nil {
		return 0
	}
	refused, ok := err.(*Refusal)
	if !ok || refused.Reason != Quota || refused.RetryAfter <= 0 {
		t.Fatalf("refused with %v", err)
	}
	return refused.RetryAfter
}

// A client sends at its rate on average. After silence it may send one request of the largest size,
// and the time that a refusal names is enough.
// Promise 85.
func TestRatesHoldOnAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUsage("client a", Limits{MessagesPerSecond: new(uint64(100)), BytesPerSecond: new(Bytes(1 << 20))})
		for range 3 {
			if taken(t, u, burstMessages, 100) != 0 {
				t.Fatal("a request of the most messages after silence is refused")
			}
			wait := taken(t, u, 50, 100)
			if wait == 0 || wait > time.Second {
				t.Fatalf("50 messages at 100 a second: wait %v", wait)
			}
			time.Sleep(wait)
			if taken(t, u, 50, 100) != 0 {
				t.Fatal("refused after the time that the refusal named")
			}
			time.Sleep(burstMessages / 100 * time.Second)
		}
		if taken(t, u, 1, burstBytes) != 0 {
			t.Fatal("a request of the most bytes after silence is refused")
		}
		if wait := taken(t, u, 1, 3<<20); wait < 3*time.Second-time.Millisecond || wait > 3*time.Second+time.Millisecond {
			t.Errorf("3 MiB at 1 MiB a second: wait %v", wait)
		}
		// A refusal takes nothing: the messages of the refused request are still there.
		time.Sleep(3 * time.Second)
		if taken(t, u, 300, 3<<20) != 0 {
			t.Error("refused after the time that the refusal named")
		}
		if newer := newUsage("client b", Limits{}); taken(t, newer, 1<<20, 1<<40) != 0 {
			t.Error("without limits something is refused")
		}
	})
}

// The bytes of a day are counted from midnight UTC, and a change of the limits goes on counting.
// Promise 85.
func TestABytesOfADayAreCountedFromMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(6 * time.Hour) // the time begins at midnight
		u := newUsage("client a", Limits{BytesPerDay: new(Bytes(1000))})
		if taken(t, u, 1, 600) != 0 || taken(t, u, 1, 400) != 0 {
			t.Fatal("1000 bytes are refused")
		}
		if wait := taken(t, u, 1, 1); wait != 18*time.Hour {
			t.Errorf("beyond them at 6 in the morning: wait %v", wait)
		}
		u.set(Limits{BytesPerDay: new(Bytes(1500))})
		if taken(t, u, 1, 501) == 0 || taken(t, u, 1, 500) != 0 {
			t.Error("after the limit was raised by 500: not counted on")
		}
		time.Sleep(18 * time.Hour)
		if taken(t, u, 1, 1500) != 0 {
			t.Error("refused the next day")
		}
		c, err := newUsage("client b", Limits{BytesPerDay: new(Bytes(10)), MessagesPerSecond: new(uint64(1)), BytesPerSecond: new(Bytes(1))}).
			take(time.Now(), burstMessages, 10)
		if err != nil {
			t.Fatal(err)
		}
		c.refund()
		c.usage.set(c.usage.limits)
		if taken(t, c.usage, burstMessages, 10) != 0 {
			t.Error("refused after a refund")
		}
		if taken(t, c.usage, 0, 1) == 0 {
			t.Error("a refund gave more than was taken")
		}
	})
}

// The network of an IPv6 address is one client. The table of addresses is bounded, and one with
// something open is not forgotten first.
func TestAddressesAreBounded(t *testing.T) {
	for a, same := range map[string]string{
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::1", "::ffff:192.0.2.1": "192.0.2.1", "fe80::1%eth0": "fe80::2%eth1",
	} {
		if prefixOf(netip.MustParseAddr(a)) != prefixOf(netip.MustParseAddr(same)) {
			t.Errorf("%s and %s are two clients", a, same)
		}
	}
	if prefixOf(netip.MustParseAddr("192.0.2.1")) == prefixOf(netip.MustParseAddr("192.0.2.2")) {
		t.Error("two IPv4 addresses are one client")
	}
	table := newAddresses()
	table.set(Limits{BytesPerDay: new(Bytes(1))})
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	open := table.of(at(0))
	if err := open.connect(); err != nil {
		t.Fatal(err)
	}
	for i := range maxAddresses + 50 {
		table.of(at(i + 1))
	}
	if len(table.table) != maxAddresses || table.recent.Len() != maxAddresses {
		t.Errorf("%d addresses, %d in order", len(table.table), table.recent.Len())
	}
	if table.of(at(0)) != open {
		t.Error("an address with a connection was forgotten before idle ones")
	}
}

const withLimits = `{"anonymous":{"allow":["Submit"],"limits":{"bytesPerDay":%d},"total":{"bytesPerDay":100}},
  "clients":[{"name":"a","token":{"file":"token"},"allow":["Submit"],"limits":{"bytesPerDay":100}}]}`

// Limits of an address and of all addresses hold both, and what was counted outlives a change of
// the file.
// Promise 85.
func TestWhatWasCountedOutlivesTheFile(t *testing.T) {
	p := newPlace(t)
	p.write("token", []byte(opaque))
	c := p.open(fmt.Sprintf(withLimits, 40))
	from := func(address string) *Identity {
		r := request("")
		r.RemoteAddr = address + ":1"
		return identified(t, c, r)
	}
	admit := func(id *Identity, size int) string {
		if _, err := id.Admit(1, size); err != nil {
			return err.Error()
		}
		return ""
	}
	named := func() *Identity { return identified(t, c, bearer(opaque)) }
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
		if why := admit(from(address), 40); why != "" {
			t.Fatal(why)
		}
	}
	if why := admit(from("192.0.2.1"), 1); !strings.Contains(why, "the address 192.0.2.1/32 has 0 of 40") {
		t.Errorf("beyond the limit of an address: %q", why)
	}
	if why := admit(from("192.0.2.3"), 21); !strings.Contains(why, "clients without a credential has 20 of 100") {
		t.Errorf("beyond that of all addresses: %q", why)
	}
	if why := admit(named(), 90); why != "" {
		t.Fatal(why)
	}
	p.write("access.json", []byte(fmt.Sprintf(withLimits, 50)))
	c.reload()
	if why := admit(named(), 11); !strings.Contains(why, "client a has 10 of 100") {
		t.Errorf("a client after the file has changed: %q", why)
	}
	if why := admit(from("192.0.2.1"), 11); !strings.Contains(why, "has 10 of 50") {
		t.Errorf("an address after the file has changed: %q", why)
	}
	if why := admit(from("192.0.2.1"), 10); why != "" {
		t.Errorf("an address whose limit was raised: %q", why)
	}
}
