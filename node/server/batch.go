package server

import (
	"encoding/binary"
)

// maxBatchMessages and maxSubmitBytes bound a submit request of /v1.
const (
	maxBatchMessages = 10_000
	maxSubmitBytes   = 8 << 20
)

// decodeBatch splits an application/vnd.diseq.batch body: repeated uvarint length and that many
// bytes. The messages alias body. A length in more bytes than it needs is accepted; one beyond the
// body is not.
func decodeBatch(body []byte) ([][]byte, error) {
	var out [][]byte
	for len(body) > 0 {
		if len(out) == maxBatchMessages {
			return nil, tooManyMessages()
		}
		length, n := binary.Uvarint(body)
		if n <= 0 {
			return nil, badRequest("message %d: its length is not a uvarint of 64 bits", len(out))
		}
		body = body[n:]
		if length > uint64(len(body)) {
			return nil, badRequest("message %d: its length is %d, but only %d bytes are left", len(out), length, len(body))
		}
		out = append(out, body[:length:length])
		body = body[length:]
	}
	return out, nil
}

func tooManyMessages() *apiError {
	return tooLarge("the request has more than %d messages", maxBatchMessages)
}
