package seats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const patience = time.Second

// hall is a limiter whose holders release a seat as soon as they are asked to.
type hall struct {
	*Limiter
	t    *testing.T
	mu   sync.Mutex
	gone []string // the names of the holders that were asked, in order
}

func newHall(t *testing.T, capacity int64) *hall {
	return &hall{Limiter: New(capacity, patience), t: t}
}

// try takes a seat under a name, idle from now on.
func (h *hall) try(name string, c Claim) (*Seat, error) {
	var seat *Seat
	taken := make(chan struct{})
	c.GiveWay = func() {
		h.mu.Lock()
		h.gone = append(h.gone, name)
		h.mu.Unlock()
		go func() {
			<-taken
			seat.Release()
		}()
	}
	seat, err := h.Take(h.t.Context(), c)
	if err == nil {
		close(taken)
		seat.IdleFrom(time.Now())
	}
	return seat, err
}

func (h *hall) take(name string, c Claim) *Seat {
	h.t.Helper()
	s, err := h.try(name, c)
	if err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	return s
}

func (h *hall) want(names ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.gone, names) {
		h.t.Errorf("%q gave way, want %q", h.gone, names)
	}
}

func TestAKeyTakesAllWhileThereIsRoom(t *testing.T) {
	h := newHall(t, 3)
	for i := range 3 {
		h.take(fmt.Sprint(i), Claim{Key: "a"})
	}
	if _, err := h.try("one more", Claim{Key: "a"}); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the capacity: %v", err)
	}
	if _, err := h.try("no time", Claim{Key: "b"}); !errors.Is(err, ErrFull) {
		t.Errorf("without a wait: %v", err)
	}
	h.want() // it would have been for nothing
}

func TestALightKeyTakesTheLongestIdleSeatOfTheHeaviest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 6)
		h.take("light", Claim{Key: "light"})
		for i := range 5 {
			time.Sleep(time.Millisecond)
			h.take(fmt.Sprint("heavy", i), Claim{Key: "heavy"}).IdleFrom(time.Now().Add(time.Duration(-i) * time.Hour))
		}
		h.take("new", Claim{Key: "new", Wait: time.Millisecond})
		h.want("heavy4")
		h.take("new2", Claim{Key: "new", Wait: time.Millisecond})
		h.want("heavy4", "heavy3")
		if h.Taken() != 6 || h.Of("heavy") != 3 || h.Of("new") != 2 || h.Of("nobody") != 0 {
			t.Errorf("%d taken, heavy %d, new %d", h.Taken(), h.Of("heavy"), h.Of("new"))
		}
	})
}

// Two clients that hold the same do not push each other out in turns, unless a seat lies idle.
func TestEqualsGiveWayOnlyAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 2)
		h.take("a", Claim{Key: "a"})
		h.take("b", Claim{Key: "b"})
		start := time.Now()
		if _, err := h.try("soon", Claim{Key: "c", Wait: patience / 2}); !errors.Is(err, ErrFull) {
			t.Errorf("within the patience: %v", err)
		}
		h.want()
		h.take("c", Claim{Key: "c", Wait: patience})
		if waited := time.Since(start); waited != patience {
			t.Errorf("it waited for %v, want %v", waited, patience)
		}
	})
}

func TestAHeavyKeyTakesNothingFromALightOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 4)
		light := h.take("light", Claim{Key: "light"})
		light.IdleFrom(time.Now().Add(-time.Hour))
		for i := range 3 {
			h.take(fmt.Sprint(i), Claim{Key: "heavy"})
		}
		h.take("newcomer", Claim{Key: "heavy", Wait: time.Minute}) // of its own
		if light.GaveWay() {
			t.Error("the light one gave way")
		}
		if len(h.gone) != 1 {
			t.Errorf("%q gave way", h.gone)
		}
	})
}

func TestASeatAtWorkIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 2)
		working := []*Seat{h.take("a", Claim{Key: "heavy"}), h.take("b", Claim{Key: "heavy"})}
		working[0].IdleFrom(time.Time{})
		working[1].IdleFrom(time.Now().Add(time.Minute)) // it goes on until then at least
		if _, err := h.try("new", Claim{Key: "new", Wait: 30 * time.Second}); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
		h.want()
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			working[0].IdleFrom(time.Now()) // sooner than the timer knows
		}()
		h.take("new", Claim{Key: "new", Wait: time.Hour})
		if waited := time.Since(start); waited > time.Second+patience {
			t.Errorf("it waited for %v", waited)
		}
		h.want("a")
	})
}

func TestASeatWithoutAWayOutIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, patience)
		s, err := l.Take(t.Context(), Claim{Key: "a"})
		if err != nil {
			t.Fatal(err)
		}
		s.IdleFrom(time.Now())
		if _, err := l.Take(t.Context(), Claim{Key: "b", Wait: time.Hour}); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
	})
}

// A seat that was asked to give way stands for something until the holder releases it.
func TestASeatThatGivesWayCountsUntilItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, patience)
		asked := make(chan struct{}, 2)
		s, err := l.Take(t.Context(), Claim{Key: "a", GiveWay: func() { asked <- struct{}{} }})
		if err != nil {
			t.Fatal(err)
		}
		s.IdleFrom(time.Now())
		for range 2 {
			if _, err := l.Take(t.Context(), Claim{Key: "b", Wait: time.Minute}); !errors.Is(err, ErrFull) {
				t.Errorf("before the release: %v", err)
			}
		}
		if len(asked) != 1 || !s.GaveWay() || l.Taken() != 1 {
			t.Errorf("asked %d times, %d taken", len(asked), l.Taken())
		}
		s.Release()
		s.Release()
		if _, err := l.Take(t.Context(), Claim{Key: "b"}); err != nil || l.Taken() != 1 {
			t.Errorf("after it: %v, %d taken", err, l.Taken())
		}
	})
}

func TestTheNextSeatIsTheLightestWaitersAndTheOldestOfEquals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(2, patience)
		var held []*Seat
		for range 2 {
			s, err := l.Take(t.Context(), Claim{Key: "a"})
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, s)
		}
		var order []string
		for _, name := range []string{"a", "b", "c"} {
			go func() {
				s, err := l.Take(t.Context(), Claim{Key: name, Wait: time.Hour})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				order = append(order, name)
				time.Sleep(time.Second)
				s.Release()
			}()
			synctest.Wait()
		}
		held[0].Release() // a goes on with the other one
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(order, []string{"b", "c", "a"}) {
			t.Errorf("seats went to %q", order)
		}
		held[1].Release()
	})
}

// A newcomer to a queue that has stood still for long is served before those in it, who would
// all be too late.
func TestInAQueueThatStandsTheNewestIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, patience)
		held, err := l.Take(t.Context(), Claim{Key: "a"})
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, name := range []string{"old", "older than new", "fresh", "as fresh"} {
			go func() {
				s, err := l.Take(t.Context(), Claim{Key: name, Wait: time.Hour})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				order = append(order, name)
				s.Release()
			}()
			synctest.Wait()
			if name == "older than new" {
				time.Sleep(stale)
			}
		}
		held.Release()
		synctest.Wait()
		if want := []string{"fresh", "as fresh", "older than new", "old"}; !slices.Equal(order, want) {
			t.Errorf("seats went to %q, want %q", order, want)
		}
	})
}

func TestTheLimitOfAKeyBindsThatKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 10)
		first := h.take("first", Claim{Key: "a", Most: 2})
		first.IdleFrom(time.Time{})
		h.take("second", Claim{Key: "a", Most: 2})
		if _, err := h.try("third", Claim{Key: "a", Most: 2}); !errors.Is(err, ErrMost) {
			t.Errorf("beyond its limit: %v", err)
		}
		waits := make(chan error)
		go func() {
			_, err := h.try("waits", Claim{Key: "a", Most: 2, Wait: time.Hour})
			waits <- err
		}()
		synctest.Wait()
		h.take("other", Claim{Key: "b", Most: 2}) // does not wait behind it
		if err := <-waits; err != nil {
			t.Errorf("once its own seat has been idle: %v", err)
		}
		h.want("second")
	})
}

func TestWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 100)
		for i := range 10 {
			h.take(fmt.Sprint(i), Claim{Key: "a", Weight: 10}).IdleFrom(time.Now().Add(time.Duration(i) * time.Nanosecond))
		}
		time.Sleep(time.Microsecond)
		h.take("b", Claim{Key: "b", Weight: 25, Wait: time.Millisecond})
		slices.Sort(h.gone)
		h.want("0", "1", "2") // as many as it takes
		if h.Taken() != 95 {
			t.Errorf("%d taken", h.Taken())
		}
		// All there is, however much is asked for.
		h.take("c", Claim{Key: "c", Weight: 1 << 40, Wait: time.Minute})
		if h.Taken() != 100 || h.Of("c") != 100 {
			t.Errorf("%d taken, %d by c", h.Taken(), h.Of("c"))
		}
	})
}

func TestAWaiterThatLeavesStandsInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10, patience)
		s, err := l.Take(t.Context(), Claim{Key: "a", Weight: 5})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := l.Take(ctx, Claim{Key: "b", Weight: 10, Wait: time.Hour})
			gone <- err
		}()
		synctest.Wait()
		behind := make(chan error)
		go func() {
			_, err := l.Take(t.Context(), Claim{Key: "c", Weight: 5, Wait: time.Hour})
			behind <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := <-behind; err != nil {
			t.Error(err)
		}
		s.Release()
	})
}

// However seats come and go, no more than the capacity is taken, nobody waits while there is room,
// and nothing is left at the end.
func TestWhateverComesTheBoundHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 50
		h := newHall(t, capacity)
		var mu sync.Mutex
		held := int64(0)
		var all sync.WaitGroup
		for i := range 2000 {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			all.Go(func() {
				time.Sleep(time.Duration(random.IntN(10_000)) * time.Millisecond)
				asked := make(chan struct{})
				weight := 1 + random.Int64N(20)
				s, err := h.Take(t.Context(), Claim{
					Key: fmt.Sprint(random.IntN(5)), Weight: weight, Most: random.Int64N(2) * 30, Wait: time.Duration(random.IntN(3)) * time.Second,
					GiveWay: func() { close(asked) },
				})
				if err != nil {
					return
				}
				mu.Lock()
				if held += weight; held > capacity {
					t.Errorf("%d are held", held)
				}
				mu.Unlock()
				s.IdleFrom(time.Now().Add(time.Duration(random.IntN(2000)) * time.Millisecond))
				select {
				case <-asked:
				case <-time.After(time.Duration(random.IntN(3000)) * time.Millisecond):
				}
				mu.Lock()
				held -= weight
				mu.Unlock()
				s.Release()
			})
		}
		all.Wait()
		if h.Taken() != 0 || len(h.keys)+len(h.seats)+len(h.waiting) != 0 || h.leaving != 0 {
			t.Errorf("left: %d taken, %d keys, %d seats, %d waiting, %d leaving", h.Taken(), len(h.keys), len(h.seats), len(h.waiting), h.leaving)
		}
	})
}
