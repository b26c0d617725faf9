package controlapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestOpenAPI_RoutesAreDocumented compares the document that is served with the
// routes that are registered, both ways.
func TestOpenAPI_RoutesAreDocumented(t *testing.T) {
	f := newFixture(t)
	var doc apiDocument
	f.do("", "GET", v1+"/openapi.json", "", 200, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || doc.Info.Version != "v1.2.3" {
		t.Errorf("openapi %q, version %q", doc.OpenAPI, doc.Info.Version)
	}
	compareRoutes(t, f.handler, doc)
	for path, item := range doc.Paths {
		for method := range item {
			f.askForRoute(strings.ToUpper(method), path)
		}
	}
}

// TestOpenAPI_GitRoutesAreDocumented: those that are there with git providers only.
func TestOpenAPI_GitRoutesAreDocumented(t *testing.T) {
	h := newHub(t)
	text, err := json.Marshal(openAPIDocument("", true))
	must(t, err)
	var doc apiDocument
	must(t, json.Unmarshal(text, &doc))
	compareRoutes(t, h.served, doc)
}

func compareRoutes(t *testing.T, a *API, doc apiDocument) {
	t.Helper()
	var documented, registered []string
	for path, item := range doc.Paths {
		for method := range item {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	for _, pattern := range a.routes {
		if strings.Contains(pattern, " "+v1+"/") {
			registered = append(registered, pattern)
		}
	}
	slices.Sort(documented)
	slices.Sort(registered)
	if diff := cmp.Diff(registered, documented); diff != "" || len(documented) < 26 {
		t.Errorf("documented routes (-registered +documented):\n%s", diff)
	}
}

// askForRoute wants an answer of a handler, whatever it says.
func (f *fixture) askForRoute(method, path string) {
	f.t.Helper()
	path = strings.NewReplacer("{id}", uuid.NewString(), "{name}", "x", "{owner}", "x", "{agent}", "x").Replace(path)
	req := httptest.NewRequest(method, path, strings.NewReader(""))
	req.Header.Set("Coder-Session-Token", f.admin)
	rec := httptest.NewRecorder()
	f.handler.ServeHTTP(rec, req)
	if strings.Contains(rec.Body.String(), "Route not found") || rec.Code == http.StatusMethodNotAllowed {
		f.t.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
}

// TestOpenAPI_OperationsAreWhole: ids are unique, references lead somewhere, path
// parameters are described, and who may call is true.
func TestOpenAPI_OperationsAreWhole(t *testing.T) {
	f := newFixture(t)
	var doc apiDocument
	f.do("", "GET", v1+"/openapi.json", "", 200, &doc)
	ids := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			if ids[op.OperationID] || op.Summary == "" || op.Responses["default"].Content == nil {
				t.Errorf("%s %s: id %q, summary %q", method, path, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
			if n := strings.Count(path, "{"); n > len(op.Parameters) {
				t.Errorf("%s %s: %d parameters, want %d", method, path, len(op.Parameters), n)
			}
			for _, m := range op.RequestBody.Content {
				doc.resolve(t, m.Schema)
			}
			concrete := strings.NewReplacer("{id}", uuid.NewString(), "{name}", "ann", "{owner}", "ann", "{agent}", "x").Replace(path)
			for token, status := range map[string]int{"": 401, f.ann: 403} {
				if token != "" && strings.Contains(op.Description, users) {
					continue // she would change her own token
				}
				req := httptest.NewRequest(strings.ToUpper(method), concrete, strings.NewReader(""))
				req.Header.Set("Coder-Session-Token", token)
				rec := httptest.NewRecorder()
				f.handler.ServeHTTP(rec, req)
				refused := rec.Code == status
				should := token == "" && !strings.Contains(op.Description, everybody) || token != "" && strings.Contains(op.Description, admins)
				if refused != should {
					t.Errorf("%s %s: %s, but status %d with token %t", method, path, op.Description, rec.Code, token != "")
				}
			}
		}
	}
}

// apiDocument is the document as far as tests look into it.
type apiDocument struct {
	OpenAPI string
	Info    struct{ Version string }
	Paths   map[string]map[string]struct {
		OperationID, Summary, Description string
		Parameters                        []map[string]any
		RequestBody                       apiBody
		Responses                         map[string]apiBody
	}
	Components struct{ Schemas map[string]apiSchema }
	checked    int // exchanges that were compared
}

type apiBody struct {
	Content map[string]struct{ Schema apiSchema }
}

type apiSchema struct {
	Ref                  string `json:"$ref"`
	Type, Format         string
	Enum                 []string
	Items                *apiSchema
	Properties           map[string]apiSchema
	Required             []string
	AdditionalProperties json.RawMessage
}

func (d *apiDocument) resolve(t *testing.T, s apiSchema) apiSchema {
	t.Helper()
	if s.Ref == "" {
		return s
	}
	out, ok := d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	if !ok {
		t.Errorf("%s leads nowhere", s.Ref)
	}
	return out
}

// checkExchange compares a request of a test and its answer with the document.
func (d *apiDocument) checkExchange(t *testing.T, pattern string, sent, answer []byte, status int) {
	t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	op, ok := d.Paths[path][strings.ToLower(method)]
	if !ok {
		return
	}
	d.checked++
	response, ok := op.Responses[fmt.Sprint(status)]
	if !ok {
		if status < 400 {
			t.Errorf("%s: status %d is not documented", pattern, status)
		}
		response = op.Responses["default"]
	}
	if len(answer) > 0 {
		d.checkJSON(t, pattern+" answer", response.Content["application/json"].Schema, answer)
	}
	if body, ok := op.RequestBody.Content["application/json"]; ok && status < 300 && body.Schema.Ref != "" {
		d.checkJSON(t, pattern+" request", body.Schema, sent)
	}
}

func (d *apiDocument) checkJSON(t *testing.T, where string, s apiSchema, text []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	d.check(t, where, s, v)
}

// check validates a value; it knows the part of JSON schema that the document uses.
func (d *apiDocument) check(t *testing.T, where string, s apiSchema, v any) {
	t.Helper()
	s = d.resolve(t, s)
	kinds := map[string]bool{}
	switch v := v.(type) {
	case bool:
		kinds["boolean"] = true
	case float64:
		kinds["integer"] = v == float64(int64(v))
	case string:
		kinds["string"] = true
		d.checkString(t, where, s, v)
	case []any:
		kinds["array"] = true
		for i, e := range v {
			if s.Items != nil {
				d.check(t, fmt.Sprintf("%s[%d]", where, i), *s.Items, e)
			}
		}
	case map[string]any:
		kinds["object"] = true
		d.checkObject(t, where, s, v)
	}
	if !kinds[s.Type] {
		t.Errorf("%s: %v is no %q", where, v, s.Type)
	}
}

func (d *apiDocument) checkString(t *testing.T, where string, s apiSchema, v string) {
	t.Helper()
	var err error
	switch s.Format {
	case "uuid":
		_, err = uuid.Parse(v)
	case "date-time":
		_, err = time.Parse(time.RFC3339, v)
	}
	if err != nil || s.Enum != nil && !slices.Contains(s.Enum, v) {
		t.Errorf("%s: %q: %v, want one of %v", where, v, err, s.Enum)
	}
}

func (d *apiDocument) checkObject(t *testing.T, where string, s apiSchema, v map[string]any) {
	t.Helper()
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			t.Errorf("%s: %s is missing", where, name)
		}
	}
	var others *apiSchema // nil: none are allowed
	if string(s.AdditionalProperties) != "false" && len(s.AdditionalProperties) > 0 {
		others = &apiSchema{}
		if err := json.Unmarshal(s.AdditionalProperties, others); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		property, ok := s.Properties[name]
		switch {
		case ok:
			d.check(t, where+"."+name, property, v[name])
		case others != nil:
			d.check(t, where+"."+name, *others, v[name])
		case s.Properties != nil:
			t.Errorf("%s: %s is not documented", where, name)
		}
	}
}
