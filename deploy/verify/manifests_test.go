// Package verify reads the manifests of ../kubernetes into the types of those who
// read them in a cluster. It is a module of its own, because nothing else needs
// these types.
package verify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	yamldocs "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// manifests are the objects of all files, by kind and name.
type manifests struct {
	claims      map[string]*core.PersistentVolumeClaim
	deployments map[string]*apps.Deployment
	services    map[string]*core.Service
	monitors    map[string]*monitoring.ServiceMonitor
}

// load reads every document strictly: an unknown or repeated field is an error.
func load(t *testing.T) manifests {
	t.Helper()
	m := manifests{
		claims: make(map[string]*core.PersistentVolumeClaim), deployments: make(map[string]*apps.Deployment),
		services: make(map[string]*core.Service), monitors: make(map[string]*monitoring.ServiceMonitor),
	}
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("files %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs := yamldocs.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			doc, err := docs.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			m.add(t, file, doc)
		}
	}
	return m
}

func (m manifests) add(t *testing.T, file string, doc []byte) {
	t.Helper()
	var head meta.TypeMeta
	if err := yaml.Unmarshal(doc, &head); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	switch head.APIVersion + "/" + head.Kind {
	case "v1/PersistentVolumeClaim":
		o := strict[core.PersistentVolumeClaim](t, file, doc)
		m.claims[o.Name] = o
	case "apps/v1/Deployment":
		o := strict[apps.Deployment](t, file, doc)
		m.deployments[o.Name] = o
	case "v1/Service":
		o := strict[core.Service](t, file, doc)
		m.services[o.Name] = o
	case "monitoring.coreos.com/v1/ServiceMonitor":
		o := strict[monitoring.ServiceMonitor](t, file, doc)
		m.monitors[o.Name] = o
	default:
		t.Errorf("%s: %s %s is not known here", file, head.APIVersion, head.Kind)
	}
}

func strict[T any](t *testing.T, file string, doc []byte) *T {
	t.Helper()
	var o T
	if err := yaml.UnmarshalStrict(doc, &o); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return &o
}

// TestManifests_FindEachOther: from the monitor over the service and the pods to
// the port of the container every name is the name of something.
func TestManifests_FindEachOther(t *testing.T) {
	m := load(t)
	deployment, monitor := m.deployments["worktally"], m.monitors["worktally"]
	if deployment == nil || monitor == nil || len(m.services) != 2 || len(m.claims) != 1 {
		t.Fatalf("%+v", m)
	}
	pods := labels.Set(deployment.Spec.Template.Labels)
	if selector, err := meta.LabelSelectorAsSelector(deployment.Spec.Selector); err != nil || !selector.Matches(pods) {
		t.Errorf("the deployment does not find its pods: %v", err)
	}
	container := deployment.Spec.Template.Spec.Containers[0]
	named := make(map[string]int32)
	for _, p := range container.Ports {
		named[p.Name] = p.ContainerPort
	}
	for name, service := range m.services {
		if !labels.SelectorFromSet(service.Spec.Selector).Matches(pods) {
			t.Errorf("service %s finds no pods", name)
		}
		for _, p := range service.Spec.Ports {
			if p.TargetPort.Type != intstr.String || named[p.TargetPort.StrVal] == 0 {
				t.Errorf("service %s: no container port is called %s", name, p.TargetPort.String())
			}
		}
	}
	for what, port := range map[string]intstr.IntOrString{"liveness": container.LivenessProbe.HTTPGet.Port, "readiness": container.ReadinessProbe.HTTPGet.Port} {
		if named[port.StrVal] == 0 {
			t.Errorf("the %s probe asks port %s", what, port.String())
		}
	}
	if c := deployment.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim; c == nil || m.claims[c.ClaimName] == nil {
		t.Error("the volume has no claim")
	}
	found := 0
	selector, err := meta.LabelSelectorAsSelector(&monitor.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	for name, service := range m.services {
		if !selector.Matches(labels.Set(service.Labels)) {
			continue
		}
		found++
		if service.Spec.ClusterIP != core.ClusterIPNone {
			t.Errorf("service %s is not headless: replicas would share a target", name)
		}
		for _, e := range monitor.Spec.Endpoints {
			if !hasPort(service, e.Port) {
				t.Errorf("service %s has no port %q, which the monitor wants", name, e.Port)
			}
		}
	}
	if found != 1 {
		t.Errorf("the monitor finds %d services", found)
	}
}

func hasPort(s *core.Service, name string) bool {
	for _, p := range s.Spec.Ports {
		if p.Name == name {
			return true
		}
	}
	return false
}

// TestManifests_PortsAreThoseOfTheServer: the addresses that the server is told
// are the ports of the container.
func TestManifests_PortsAreThoseOfTheServer(t *testing.T) {
	container := load(t).deployments["worktally"].Spec.Template.Spec.Containers[0]
	env := make(map[string]string)
	for _, e := range container.Env {
		env[e.Name] = e.Value
	}
	ports := map[string]string{"http": "CODER_HTTP_ADDRESS", "metrics": "CODER_PROMETHEUS_ADDRESS"}
	for _, p := range container.Ports {
		if want := fmt.Sprintf("0.0.0.0:%d", p.ContainerPort); env[ports[p.Name]] != want {
			t.Errorf("%s is %q, the port %s is %s", ports[p.Name], env[ports[p.Name]], p.Name, want)
		}
	}
}

// TestStrict: a field that nobody reads is found.
func TestStrict(t *testing.T) {
	var s core.Service
	if err := yaml.UnmarshalStrict([]byte("kind: Service\nspec: {port: [1]}\n"), &s); err == nil {
		t.Error("an unknown field was read")
	}
	if err := yaml.UnmarshalStrict(bytes.TrimSpace([]byte("kind: Service\nkind: Service\n")), &s); err == nil {
		t.Error("a repeated field was read")
	}
}
