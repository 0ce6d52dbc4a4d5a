package main

import (
	"context"
	"flag"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// idle is the smallest operator: a manager with metrics and one controller of ConfigMaps. It reports its memory once its
// cache has synced, and again some seconds later.
func idle(arguments []string) any {
	flags := flag.NewFlagSet("idle", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "file")
	seconds := flags.Float64("seconds", 2, "how long to idle")
	check(flags.Parse(arguments))
	started := time.Now()
	manager, err := ctrl.NewManager(configuration(*kubeconfig, "json"), ctrl.Options{
		Scheme:  scheme(),
		Metrics: metricsserver.Options{BindAddress: "127.0.0.1:0"},
	})
	check(err)
	priority := true
	options := ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{})
	options.WithOptions(controller.Options{UsePriorityQueue: &priority})
	check(options.Complete(reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, nil
	})))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { check(manager.Start(ctx)) }()
	informer, err := manager.GetCache().GetInformer(ctx, &corev1.ConfigMap{})
	check(err)
	for !informer.HasSynced() {
		time.Sleep(time.Millisecond)
	}
	ready := time.Since(started).Seconds()
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	return map[string]any{"ready_seconds": ready, "idle_mib": memory("VmRSS"), "peak_mib": memory("VmHWM")}
}
