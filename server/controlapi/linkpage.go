package controlapi

import (
	"bytes"
	"html/template"
	"net/http"

	"github.com/worktally/worktally/server/gitauth"
)

// linkPage is the page on which people link an account.
type linkPage struct {
	Name string // the provider's
	// Ask wants the person's token; otherwise the login is over.
	Ask     bool
	Problem string // "" means that all went well
}

// linkText has no script and loads nothing.
const linkText = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Worktally: {{.Name}}</title></head><body>
<h1>{{.Name}}</h1>
{{if .Ask}}<p>To let git in your workspaces use your account, give your Worktally token and log in.</p>
<form method="post"><label>Token <input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button>Log in at {{.Name}}</button></form>
{{else if .Problem}}<p>{{.Problem}}</p>
{{else}}<p>The account is linked. You can close this page.</p>
{{end}}</body></html>
`

// page answers with the page. The form may send the browser on to the provider,
// and nowhere else.
func (a *API) page(w http.ResponseWriter, status int, p *gitauth.Provider, page linkPage) {
	page.Name = p.DisplayName
	var b bytes.Buffer
	if err := template.Must(template.New("link").Parse(linkText)).Execute(&b, page); err != nil {
		panic("BUG: controlapi: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self' "+origin(p.AuthURL)+"; frame-ancestors 'none'; base-uri 'none'")
	// With no-referrer browsers would hide the origin of the form, and the guard
	// against forms of other sites would refuse it.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser may be gone
}
