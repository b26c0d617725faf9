package wire

import (
	"encoding/json"
	"net/http"
)

// Error is the body of every HTTP answer that is not a success (contract
// agent-api.md section 3.1).
type Error struct {
	Message     string       `json:"message"`
	Detail      string       `json:"detail,omitempty"`
	Validations []Validation `json:"validations,omitempty"`
}

// Validation names one bad field of a request. Line is set for documents.
type Validation struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
	Line   int    `json:"line,omitempty"`
}

// WriteError answers a request with the status and the error.
func WriteError(w http.ResponseWriter, status int, e Error) {
	WriteJSON(w, status, e)
}

// WriteJSON answers a request with the status and v as JSON. A value that cannot
// be encoded is a mistake of ours.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: wire: encode answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// The peer may be gone; there is nobody left to tell.
	_, _ = w.Write(append(body, '\n'))
}
