package simulation

import (
	"time"

	"github.com/diseq/diseq/node/internal/mutation"
)

// controlsOfEras take away one rule each about changes of the validator set.
func controlsOfEras() []Case {
	eras := func(m mutation.Rules) Options {
		return Options{N: 4, T: 3, Byzantine: 1, Eras: &Eras{}, Mutation: m}
	}
	waiting := func(m mutation.Rules) Options {
		return Options{N: 3, T: 2, Byzantine: 1, Delta: delta, Eras: &Eras{}, Mutation: m}
	}
	return []Case{
		{"nobody settles at a change", waiting(mutation.Rules{ForgetEra: true}), ErrFork, 300},
		{"newcomers alone settle at a change", waiting(mutation.Rules{NewcomersSettle: true}), ErrFork, 300},
		{"unverifiable messages are ignored", eras(mutation.Rules{IgnoreAhead: true}), ErrStalled, 100},
		{"a newcomer votes before the block below is durable", eras(mutation.Rules{NewcomerStartsEarly: true}), ErrDurable, 100},
		{"no checkpoint", eras(mutation.Rules{NoCheckpoint: true}), ErrFork, 400},
		{"verified votes remembered without their set", eras(mutation.Rules{CacheWithoutSet: true}), ErrCertificate, 100},
		{"messages checked against another set", eras(mutation.Rules{AnySet: true}), ErrCertificate, 300},
		{"sets without a generation", Options{
			N: 4, T: 3, Byzantine: 1, Eras: &Eras{Script: []Turn{{N: 4, T: 4}, {N: 4, T: 3}}}, Mutation: mutation.Rules{NoGeneration: true},
			Weather: &Weather{Storm: 8 * time.Second, RoundTimeout: 200 * time.Millisecond},
		}, ErrChange, 200},
		{"t-1 endorsements make a change", eras(mutation.Rules{EndorsementsMissing: 1}), ErrChange, 50},
		{"a change in force before its block is final", eras(mutation.Rules{OwnSetCertifies: true}), ErrCertificate, 10},
		{"votes of leavers count", eras(mutation.Rules{CountLeavers: true}), ErrCertificate, 50},
		{"a header does not bind its change", eras(mutation.Rules{UnboundChange: true}), ErrContradiction, 400},
		{"a change is ordered although its set is not there", Options{
			N: 1, T: 1, Eras: &Eras{Script: []Turn{{N: 4, T: 3, Absent: 2}}}, Mutation: mutation.Rules{OrderUnlinked: true},
		}, ErrStalled, 10},
		{"the height after a change sleeps", Options{
			N: 4, T: 3, Eras: &Eras{Idle: true}, Mutation: mutation.Rules{SleepAfterChange: true},
		}, ErrStalled, 25},
	}
}
