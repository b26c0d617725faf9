package agentexec

import "strings"

// envList is an environment with unique names in the order they came.
type envList struct {
	list     []string
	index    map[string]int
	foldCase bool
}

func newEnvList(foldCase bool) *envList {
	return &envList{index: make(map[string]int), foldCase: foldCase}
}

func (e *envList) fold(name string) string {
	if e.foldCase {
		return strings.ToUpper(name)
	}
	return name
}

// split takes an entry apart; ok is false if it is no variable. Windows keeps
// the current directory of each drive in variables whose name starts with "=".
func (e *envList) split(kv string) (name, value string, ok bool) {
	start := 0
	if e.foldCase && strings.HasPrefix(kv, "=") {
		start = 1
	}
	i := strings.IndexByte(kv[start:], '=')
	if i < 0 || start+i == 0 || strings.IndexByte(kv, 0) >= 0 {
		return "", "", false
	}
	return kv[:start+i], kv[start+i+1:], true
}

func (e *envList) set(kv string) {
	name, _, ok := e.split(kv)
	if !ok || isOwnMachinery(e.fold(name)) {
		return
	}
	key := e.fold(name)
	if i, known := e.index[key]; known {
		e.list[i] = kv
		return
	}
	e.index[key] = len(e.list)
	e.list = append(e.list, kv)
}

func (e *envList) setAll(list []string) {
	for _, kv := range list {
		e.set(kv)
	}
}

func (e *envList) addIfNew(kv string) {
	name, _, ok := e.split(kv)
	if !ok {
		return
	}
	if _, known := e.index[e.fold(name)]; !known {
		e.set(kv)
	}
}

// get returns a value, "" if there is none.
func (e *envList) get(name string) string {
	i, ok := e.index[e.fold(name)]
	if !ok {
		return ""
	}
	_, value, _ := e.split(e.list[i])
	return value
}

// lookup returns the first value of a name in an environment.
func lookup(env []string, name string) (string, bool) {
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
