package lab

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

const loginPage = `<!DOCTYPE html>
<html><head><title>Sign in</title></head>
<body><h1>Sign in to continue</h1><form method="post"><input name="user"></form></body></html>
`

// distort puts the faults of the controller between it and its clients. With
// controller-html something else answers and nothing reaches the controller;
// with the other two it works and only its replies are broken.
func (c *controller) distort(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		truncated, wrongTypes := c.faults.is("controller-truncated"), c.faults.is("controller-wrong-types")
		switch {
		case c.faults.is("controller-html"):
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(loginPage))
		case truncated || wrongTypes:
			reply := &bufferedReply{header: w.Header(), status: http.StatusOK}
			next.ServeHTTP(reply, r)
			body := reply.body.Bytes()
			if wrongTypes {
				body = confuse(body)
			}
			if truncated {
				body = body[:len(body)/2]
			}
			w.WriteHeader(reply.status)
			_, _ = w.Write(body)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

type bufferedReply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *bufferedReply) Header() http.Header         { return b.header }
func (b *bufferedReply) WriteHeader(status int)      { b.status = status }
func (b *bufferedReply) Write(p []byte) (int, error) { return b.body.Write(p) }

// confuse rewrites a JSON reply as a careless serialiser would: numbers as
// strings and lists as objects.
func confuse(body []byte) []byte {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return body
	}
	confused, err := json.Marshal(confuseValue(v))
	if err != nil {
		return body
	}
	return confused
}

func confuseValue(v any) any {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case map[string]any:
		for key, value := range v {
			v[key] = confuseValue(value)
		}
	case []any:
		object := map[string]any{}
		for i, value := range v {
			object[strconv.Itoa(i)] = confuseValue(value)
		}
		return object
	}
	return v
}
