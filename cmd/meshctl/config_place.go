package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// configPlaces finds keys in the text of a configuration.
type configPlaces struct {
	path string
	file *ast.File
}

func (c *config) places() configPlaces {
	p := configPlaces{path: c.path}
	if c.text != nil {
		p.file, _ = parser.ParseBytes(c.text, 0) // it was read before
	}
	return p
}

// of is where a key such as signaling[0].url stands, FILE:LINE:COLUMN, or of
// the nearest key around it that is there; false when the file has none.
func (p configPlaces) of(key string) (string, bool) {
	for exact := true; key != "" && p.file != nil; exact = false {
		if path, err := yaml.PathString("$." + key); err == nil {
			if node, err := path.FilterFile(p.file); err == nil {
				at := node.GetToken().Position
				return fmt.Sprintf("%s:%d:%d", p.path, at.Line, at.Column), exact
			}
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return p.path, false
}

// duration is a time with a unit; the library's own reading of one loses the
// place of what it refuses.
type duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *duration) UnmarshalYAML(node ast.Node) error {
	value, err := time.ParseDuration(node.GetToken().Value)
	if err != nil {
		return &yaml.SyntaxError{Token: node.GetToken(), Message: fmt.Sprintf("%q is not a time with a unit, such as 90s or 5m", node.GetToken().Value)}
	}
	*d = duration(value)
	return nil
}
