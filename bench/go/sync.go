package main

import (
	"context"
	"flag"
	"runtime"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// syncCache fills a controller-runtime cache and reports seconds and memory. Whether the initial list is streamed is
// decided by client-go's own switch, KUBE_FEATURE_WatchListClient.
func syncCache(arguments []string) any {
	flags := flag.NewFlagSet("sync", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "file")
	form := flags.String("form", "pods", "pods, pods-metadata, workspaces or workspaces-unstructured")
	content := flags.String("content", "json", "json or protobuf")
	strip := flags.Bool("strip", false, "drop managed fields before objects are kept")
	check(flags.Parse(arguments))

	config := configuration(*kubeconfig, *content)
	http, err := rest.HTTPClientFor(config)
	check(err)
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(workspaceKind, meta.RESTScopeNamespace)
	options := cache.Options{HTTPClient: http, Scheme: scheme(), Mapper: mapper}
	if *strip {
		options.DefaultTransform = cache.TransformStripManagedFields()
	}
	objects, err := cache.New(config, options)
	check(err)
	answer, err := http.Get(config.Host + "/version")
	check(err)
	check(answer.Body.Close())

	before := memory("VmRSS")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := time.Now()
	go func() { check(objects.Start(ctx)) }()
	informer, err := objects.GetInformer(ctx, ofForm(*form), cache.BlockUntilSynced(false))
	check(err)
	for !informer.HasSynced() {
		time.Sleep(time.Millisecond)
	}
	seconds := time.Since(started).Seconds()
	peak, now := memory("VmHWM"), memory("VmRSS")
	runtime.GC()
	debug.FreeOSMemory()
	return map[string]any{
		"objects": len(informer.(toolscache.SharedIndexInformer).GetStore().ListKeys()), "seconds": seconds,
		"idle_mib": before, "peak_mib": peak, "synced_mib": now, "after_gc_mib": memory("VmRSS"),
	}
}

func ofForm(form string) client.Object {
	switch form {
	case "pods-metadata":
		object := &metav1.PartialObjectMetadata{}
		object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
		return object
	case "workspaces":
		return &Workspace{}
	case "workspaces-unstructured":
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(workspaceKind)
		return object
	default:
		return &corev1.Pod{}
	}
}
