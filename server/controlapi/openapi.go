package controlapi

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/wire"
)

// operation documents a route of ours.
type operation struct {
	// pattern is that of the route, without the prefix of the API.
	pattern, summary string
	// who may call: everybody, users or administrators.
	who string
	// query are the names of query parameters.
	query []string
	// request and reply are zero values of what the bodies hold; nil for none.
	request, reply any
	// media are the types of the request's body; nil is JSON.
	media []string
	// status is that of success; 0 is 200. created is true if it may be 201 instead.
	status  int
	created bool
}

const (
	everybody = "everybody"
	users     = "users"
	admins    = "administrators"
)

// workspaceDocument stands for the document of a workspace, which has a parser of
// its own.
type workspaceDocument struct{}

// gitOperations are routes that are there if the server keeps accounts at git
// providers.
func gitOperations() []operation {
	return []operation{
		{pattern: "GET /external-auth", summary: "The git providers, and whether one has linked an account.", who: users, reply: []ExternalAuth{}},
		{pattern: "DELETE /external-auth/{id}", summary: "Forget one's account at a provider.", who: users, status: http.StatusNoContent},
		{pattern: "POST /external-auth/{id}/device", summary: "Begin to link an account by device code.", who: users, reply: gitauth.Device{}},
		{pattern: "POST /external-auth/{id}/device/{code}", summary: "Ask whether the account is linked; 202 with a message until then.", who: users, status: http.StatusNoContent},
		{pattern: "GET /users/me/gitsshkey", summary: "The public half of one's SSH key for git.", who: users, reply: SSHKey{}},
		{pattern: "PUT /users/me/gitsshkey", summary: "Replace that key.", who: users, reply: SSHKey{}},
	}
}

// operations returns every other route under /api/worktally/v1.
func operations() []operation {
	document := []string{"application/yaml", "application/json"}
	return []operation{
		{pattern: "GET /openapi.json", summary: "This document.", who: everybody, reply: map[string]any(nil)},
		{pattern: "GET /users", summary: "All users by name.", who: admins, reply: []User{}},
		{pattern: "POST /users", summary: "Create a user; the answer holds the token, once.", who: admins, request: NewUser{}, reply: User{}, status: http.StatusCreated},
		{pattern: "GET /users/me", summary: "Who calls.", who: users, reply: User{}},
		{pattern: "DELETE /users/{name}", summary: "Delete a user who owns no workspace.", who: admins, status: http.StatusNoContent},
		{pattern: "POST /users/{name}/token", summary: "Replace a user's token, or one's own; the old one is invalid at once.", who: users, reply: Token{}},
		{pattern: "PUT /users/{name}/email", summary: "Change a user's e-mail address, the label owner_email of builds; empty for none.", who: admins, request: Email{}, status: http.StatusNoContent},
		{pattern: "GET /workspaces", summary: "One's own workspaces; administrators: all, or those of ?owner=.", who: users, query: []string{"owner"}, reply: []Workspace{}},
		{pattern: "POST /workspaces", summary: "Create or change the workspace that the document names.", who: users, request: workspaceDocument{}, media: document, reply: Applied{}, created: true},
		{pattern: "GET /workspaces/{id}", summary: "A workspace.", who: users, reply: Workspace{}},
		{pattern: "PUT /workspaces/{id}", summary: "Change a workspace to the document, including its name.", who: users, request: workspaceDocument{}, media: document, reply: Applied{}},
		{pattern: "DELETE /workspaces/{id}", summary: "Delete a workspace; its agents' tokens are invalid at once.", who: users, status: http.StatusNoContent},
		{pattern: "POST /workspaces/{id}/agents/{agent}/token", summary: "Replace the token of an agent; the old one stays valid for the grace, at once invalid without one.", who: users, request: Rotate{}, reply: Token{}},
		{pattern: "GET /workspaces/{id}/builds", summary: "The builds of a workspace that are kept, newest first.", who: users, reply: []catalog.Build{}},
		{pattern: "GET /owners/{owner}/workspaces/{name}", summary: "A workspace by its owner, who may be me, and its name.", who: users, reply: Workspace{}},
		{pattern: "GET /templates", summary: "All templates by name.", who: admins, reply: []catalog.TemplateInfo{}},
		{pattern: "GET /templates/{id}", summary: "A template.", who: admins, reply: catalog.TemplateInfo{}},
		{pattern: "PUT /templates/{id}", summary: "An event about a template. One that is older than what is known changes nothing; a new name goes to its workspaces and builds.", who: admins, request: catalog.TemplateInfo{}, reply: catalog.TemplateInfo{}},
		{pattern: "GET /templates/{id}/versions", summary: "The versions of a template by name.", who: admins, reply: []catalog.TemplateVersion{}},
		{pattern: "GET /templateversions/{id}", summary: "A version of a template.", who: admins, reply: catalog.TemplateVersion{}},
		{pattern: "PUT /templateversions/{id}", summary: "An event about a version. Only values of parameters marked safe are kept and shown.", who: admins, request: catalog.TemplateVersion{}, reply: catalog.TemplateVersion{}},
		{pattern: "GET /builds/{id}", summary: "A build.", who: admins, reply: catalog.Build{}},
		{pattern: "PUT /builds/{id}", summary: "An event about a build. The first names workspace_id and transition, later ones may leave out everything. Repeated, late and reordered events are fine; an end counts once. 410: it is older than the 100 builds that are kept.", who: admins, request: catalog.Build{}, reply: catalog.Build{}},
		{pattern: "GET /jobs/{id}", summary: "A job of a provisioner.", who: admins, reply: catalog.Job{}},
		{pattern: "PUT /jobs/{id}", summary: "An event about a job that is no build. The first names the provisioner. 410: it is older than 35 days and not known.", who: admins, request: catalog.Job{}, reply: catalog.Job{}},
		{pattern: "POST /import", summary: "Store the state of another deployment: items as lines or as one array. What is wrong with one is in the answer, with its line; the others are stored.", who: admins, request: catalog.ImportItem{}, media: []string{"application/x-ndjson", "application/json"}, reply: ImportResult{}},
	}
}

const apiPrefix = "/api/worktally/v1"

// documentTimeout bounds how long a reader of the document may take.
const documentTimeout = time.Minute

// openAPI serves the document.
func (a *API) openAPI(w http.ResponseWriter, _ *http.Request) {
	// Nobody has to be known for this, and it is more than the server's buffer holds:
	// who does not read it must not stay. A writer without deadlines bounds nothing.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(documentTimeout))
	wire.WriteJSON(w, http.StatusOK, openAPIDocument(a.o.Build.Version, a.o.Git != nil))
}

// openAPIDocument is the OpenAPI document of our own API, with or without what is
// about git providers.
func openAPIDocument(version string, git bool) schema {
	list := operations()
	if git {
		list = append(list, gitOperations()...)
	}
	known := schemas{}
	failure := schema{"description": "What went wrong.", "content": content(known.of(reflect.TypeFor[wire.Error]()))}
	paths := schema{}
	for _, op := range list {
		method, path, _ := strings.Cut(op.pattern, " ")
		item, ok := paths[apiPrefix+path].(schema)
		if !ok {
			item = schema{}
			paths[apiPrefix+path] = item
		}
		item[strings.ToLower(method)] = op.document(known, failure)
	}
	return schema{
		"openapi": "3.1.0",
		"info": schema{"title": "Worktally", "version": version, "license": schema{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Users, workspaces, and the events of a control plane. What clients of the reference server ask for under /api/v2 is not part of it."},
		"security":   []schema{{"token": []string{}}, {"bearer": []string{}}},
		"paths":      paths,
		"components": schema{"schemas": known, "securitySchemes": securitySchemes()},
	}
}

func securitySchemes() schema {
	return schema{
		"token":  schema{"type": "apiKey", "in": "header", "name": wire.TokenHeader},
		"bearer": schema{"type": "http", "scheme": "bearer"},
	}
}

func content(s schema, media ...string) schema {
	if media == nil {
		media = []string{"application/json"}
	}
	out := schema{}
	for _, m := range media {
		out[m] = schema{"schema": s}
	}
	return out
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

func (op operation) document(known schemas, failure schema) schema {
	out := schema{"summary": op.summary, "operationId": op.id(), "description": "For " + op.who + "."}
	if op.who == everybody {
		out["security"] = []schema{}
	}
	parameters := []schema{}
	for _, m := range pathParameter.FindAllStringSubmatch(op.pattern, -1) {
		kind := schema{"type": "string"}
		if m[1] == "id" && !strings.Contains(op.pattern, "/external-auth/") { // which has names of providers
			kind["format"] = "uuid"
		}
		parameters = append(parameters, schema{"name": m[1], "in": "path", "required": true, "schema": kind})
	}
	for _, name := range op.query {
		parameters = append(parameters, schema{"name": name, "in": "query", "schema": schema{"type": "string"}})
	}
	out["parameters"] = parameters
	if op.request != nil {
		out["requestBody"] = schema{"required": true, "content": op.requestContent(known)}
	}
	out["responses"] = op.responses(known, failure)
	return out
}

// requestContent is the body of a request.
func (op operation) requestContent(known schemas) schema {
	switch op.request.(type) {
	case workspaceDocument:
		return content(schema{"type": "object", "description": "The document of a workspace, as the README describes it."}, op.media...)
	case catalog.ImportItem:
		item := known.of(reflect.TypeOf(op.request))
		return schema{op.media[0]: schema{"schema": item}, op.media[1]: schema{"schema": schema{"type": "array", "items": item}}}
	}
	return content(known.of(reflect.TypeOf(op.request)), op.media...)
}

func (op operation) responses(known schemas, failure schema) schema {
	success := schema{"description": "Success."}
	switch op.reply.(type) {
	case nil:
	case map[string]any:
		success["content"] = content(schema{"type": "object"})
	default:
		success["content"] = content(known.of(reflect.TypeOf(op.reply)))
	}
	status := op.status
	if status == 0 {
		status = http.StatusOK
	}
	out := schema{"default": failure, fmt.Sprint(status): success}
	if op.created {
		out[fmt.Sprint(http.StatusCreated)] = success
	}
	return out
}

// id makes a name such as putBuildsId of the pattern.
func (op operation) id() string {
	var b strings.Builder
	for i, word := range strings.FieldsFunc(op.pattern, func(r rune) bool { return strings.ContainsRune(" /{}.", r) }) {
		word = strings.ToLower(word)
		if i > 0 {
			word = strings.ToUpper(word[:1]) + word[1:]
		}
		b.WriteString(word)
	}
	return b.String()
}
