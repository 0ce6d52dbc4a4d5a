package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var workspaceKind = schema.GroupVersionKind{Group: "kaito.sh", Version: "v1beta1", Kind: "Workspace"}

// Workspace is a typed custom resource, as an operator in Go would declare it.
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Resource          ResourceSpec     `json:"resource"`
	Inference         *InferenceSpec   `json:"inference,omitempty"`
	Status            *WorkspaceStatus `json:"status,omitempty"`
}

// ResourceSpec says which nodes a Workspace wants.
type ResourceSpec struct {
	Count          *int                  `json:"count,omitempty"`
	InstanceType   string                `json:"instanceType,omitempty"`
	LabelSelector  *metav1.LabelSelector `json:"labelSelector,omitempty"`
	PreferredNodes []string              `json:"preferredNodes,omitempty"`
}

// InferenceSpec says what a Workspace serves.
type InferenceSpec struct {
	Preset *struct {
		Name string `json:"name"`
	} `json:"preset,omitempty"`
	Template *corev1.PodTemplateSpec `json:"template,omitempty"`
	Adapters []struct {
		Source struct {
			Name  string `json:"name,omitempty"`
			Image string `json:"image,omitempty"`
		} `json:"source"`
		Strength *string `json:"strength,omitempty"`
	} `json:"adapters,omitempty"`
	Config string `json:"config,omitempty"`
}

// WorkspaceStatus is what controllers report.
type WorkspaceStatus struct {
	WorkerNodes []string           `json:"workerNodes,omitempty"`
	Conditions  []metav1.Condition `json:"conditions,omitempty"`
}

// WorkspaceList is a page of Workspaces.
type WorkspaceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workspace `json:"items"`
}

// DeepCopyObject is not called while a cache fills, so it need not be fast.
func (w *Workspace) DeepCopyObject() runtime.Object { return copied(w, &Workspace{}) }

// DeepCopyObject: see Workspace.
func (w *WorkspaceList) DeepCopyObject() runtime.Object { return copied(w, &WorkspaceList{}) }

func copied[T runtime.Object](from, to T) T {
	encoded, err := json.Marshal(from)
	check(err)
	check(json.Unmarshal(encoded, to))
	return to
}

// scheme knows the built-in kinds and Workspace.
func scheme() *runtime.Scheme {
	known := runtime.NewScheme()
	check(clientgoscheme.AddToScheme(known))
	version := workspaceKind.GroupVersion()
	known.AddKnownTypes(version, &Workspace{}, &WorkspaceList{})
	metav1.AddToGroupVersion(known, version)
	return known
}

// load creates copies of one object, numbered in name, labels and annotations by replacing "NUMBER" in its JSON.
func load(arguments []string) any {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "file")
	template := flags.String("template", "", "file with one object in JSON, NUMBER in place of its number")
	kind := flags.String("kind", "pod", "pod or workspace")
	from := flags.Int("from", 0, "first number")
	to := flags.Int("to", 0, "first number not created")
	check(flags.Parse(arguments))
	text, err := os.ReadFile(*template)
	check(err)
	content := "json"
	if *kind == "pod" {
		content = "protobuf"
	}
	writer, err := client.New(configuration(*kubeconfig, content), client.Options{Scheme: scheme()})
	check(err)
	started := time.Now()
	var next atomic.Int64
	next.Store(int64(*from))
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			for number := next.Add(1) - 1; number < int64(*to); number = next.Add(1) - 1 {
				var object client.Object = &corev1.Pod{}
				if *kind == "workspace" {
					object = &Workspace{}
				}
				filled := bytes.ReplaceAll(text, []byte("NUMBER"), fmt.Appendf(nil, "%06d", number))
				check(json.Unmarshal(filled, object))
				check(writer.Create(context.Background(), object))
			}
		})
	}
	group.Wait()
	return map[string]any{"created": *to - *from, "seconds": time.Since(started).Seconds()}
}
