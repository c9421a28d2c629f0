package server

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
)

// changes answers {"changes":[...],"next":G}: the changes of the validator set from a generation
// on. next is the generation at which the next page starts, null if there is none yet.
func (s *Server) changes(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	from, err := parameter(q, "from", 1, 1, math.MaxUint32)
	if err != nil {
		return err
	}
	limit, err := parameter(q, "limit", defaultPage, 1, maxPage)
	if err != nil {
		return err
	}
	// One more than asked for tells whether there is a next page.
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	found, err := s.backend.Changes(r.Context(), uint32(from), int(limit)+1)
	if err != nil {
		return fmt.Errorf("changes from generation %d: %w", from, err)
	}
	out, next := []byte(`{"changes":[`), "null"
	for i := range found {
		if uint64(i) == limit || len(out) > maxPageBytes {
			next = strconv.FormatUint(uint64(found[i].Next.Generation), 10)
			break
		}
		if i > 0 {
			out = append(out, ',')
		}
		encoded, err := json.Marshal(&found[i])
		if err != nil {
			return fmt.Errorf("encode change to generation %d: %w", found[i].Next.Generation, err)
		}
		out = append(out, encoded...)
	}
	return s.send(w, r, http.StatusOK, jsonText, fmt.Appendf(out, `],"next":%s}`, next))
}

// fromGeneration reads ?from= of receipts and evidence: the generation of the set that the reader
// has, 0 for that of the genesis document.
func fromGeneration(r *http.Request) (uint32, error) {
	from, err := parameter(r.URL.Query(), "from", 0, 0, math.MaxUint32)
	return uint32(from), err
}

// parameter reads a number of the query that has to be in a range. A number that is named twice
// could be read in two ways.
func parameter(q url.Values, name string, absent, low, high uint64) (uint64, error) {
	switch values := q[name]; len(values) {
	case 0:
		return absent, nil
	case 1:
		if n, err := strconv.ParseUint(values[0], 10, 64); err == nil && n >= low && n <= high {
			return n, nil
		}
		return 0, badRequest("%s=%q: want a number from %d to %d", name, values[0], low, high)
	default:
		return 0, badRequest("%s is given %d times: want it once", name, len(values))
	}
}
