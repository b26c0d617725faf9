package controlapi

import (
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
)

// schema is a JSON schema, as OpenAPI 3.1 has it.
type schema map[string]any

// schemas collects the schemas of named types. They are made from the very types
// that are decoded and encoded, so they cannot say anything else.
type schemas map[string]schema

// of returns the schema of a type: a reference for structs.
func (s schemas) of(t reflect.Type) schema {
	if known, ok := s.special(t); ok {
		return known
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Slice:
		return schema{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		if _, done := s[t.Name()]; !done {
			s[t.Name()] = nil // it may contain itself
			s[t.Name()] = s.object(t)
		}
		return schema{"$ref": "#/components/schemas/" + t.Name()}
	}
	panic("BUG: openapi: no schema for " + t.String())
}

// special are the types that are written as strings of some form.
func (s schemas) special(t reflect.Type) (schema, bool) {
	switch t {
	case reflect.TypeFor[uuid.UUID]():
		return schema{"type": "string", "format": "uuid"}, true
	case reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}, true
	case reflect.TypeFor[catalog.Status]():
		return schema{"type": "string", "enum": catalog.Statuses()}, true
	case reflect.TypeFor[catalog.Transition]():
		return schema{"type": "string", "enum": catalog.Transitions()}, true
	}
	return nil, false
}

// object is the schema of a struct. Fields that may be left out say so in their tag.
func (s schemas) object(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		properties[name] = s.of(f.Type)
		if options == "" {
			required = append(required, name)
		}
	}
	out := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}
