package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// noop starts a whole controller over a synced informer of many objects and times it from its start until the last
// of them was reconciled, with a reconciler that does nothing.
func noop(arguments []string) any {
	flags := flag.NewFlagSet("noop", flag.ExitOnError)
	keys := flags.Int("keys", 100_000, "objects")
	workers := flags.Int("workers", 1, "reconciles at a time")
	priority := flags.Bool("priority", true, "the priority queue; false: the classic one")
	check(flags.Parse(arguments))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	informer := filledInformer(ctx, *keys)
	var done atomic.Int64
	finished := make(chan struct{})
	count := func(context.Context, reconcile.Request) (reconcile.Result, error) {
		if done.Add(1) == int64(*keys) {
			close(finished)
		}
		return reconcile.Result{}, nil
	}
	loop, err := controller.NewUnmanaged("noop", controller.Options{
		MaxConcurrentReconciles: *workers,
		Reconciler:              reconcile.Func(count),
		UsePriorityQueue:        priority,
		Logger:                  logr.Discard(),
	})
	check(err)
	check(loop.Watch(&source.Informer{Informer: cache.Informer(informer), Handler: &handler.EnqueueRequestForObject{}}))
	started := time.Now()
	go func() { check(loop.Start(ctx)) }()
	<-finished
	seconds := time.Since(started).Seconds()
	return map[string]any{"seconds": seconds, "per_second": float64(*keys) / seconds}
}

// filledInformer has synced with objects that come from memory.
func filledInformer(ctx context.Context, count int) toolscache.SharedIndexInformer {
	items := make([]metav1.PartialObjectMetadata, count)
	for number := range items {
		items[number].Namespace = "team-" + strconv.Itoa(number%20)
		items[number].Name = fmt.Sprintf("object-%06d", number)
		items[number].UID = "0"
		items[number].ResourceVersion = "1"
	}
	listed := &toolscache.ListWatch{
		ListFunc: func(metav1.ListOptions) (runtime.Object, error) {
			return &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: items}, nil
		},
		WatchFunc: func(metav1.ListOptions) (watch.Interface, error) { return watch.NewFake(), nil },
	}
	informer := toolscache.NewSharedIndexInformer(listed, &metav1.PartialObjectMetadata{}, 0, toolscache.Indexers{})
	go informer.Run(ctx.Done())
	if !toolscache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		panic("the informer did not sync")
	}
	return informer
}

// queue times add, get and done, metrics included: one key again and again, and many keys at once.
func queue(arguments []string) any {
	flags := flag.NewFlagSet("queue", flag.ExitOnError)
	single := flags.Int("single", 200_000, "rounds with one key")
	many := flags.Int("many", 1_000_000, "distinct keys")
	check(flags.Parse(arguments))
	result := map[string]any{}
	for name, make := range map[string]func(string) workqueue.TypedRateLimitingInterface[reconcile.Request]{
		"priority": func(name string) workqueue.TypedRateLimitingInterface[reconcile.Request] {
			return priorityqueue.New(name, func(options *priorityqueue.Opts[reconcile.Request]) {
				options.Log = logr.Discard()
			})
		},
		"classic": func(name string) workqueue.TypedRateLimitingInterface[reconcile.Request] {
			return workqueue.NewTypedRateLimitingQueueWithConfig(
				workqueue.DefaultTypedControllerRateLimiter[reconcile.Request](),
				workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{Name: name},
			)
		},
	} {
		one := make("single-" + name)
		request := reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "team-0", Name: "object"}}
		started := time.Now()
		for range *single {
			one.Add(request)
			item, _ := one.Get()
			one.Done(item)
		}
		result[name+"_single_us"] = float64(time.Since(started).Microseconds()) / float64(*single)
		one.ShutDown()

		requests := requests(*many)
		all := make("many-" + name)
		started = time.Now()
		for _, request := range requests {
			all.Add(request)
		}
		for range requests {
			item, _ := all.Get()
			all.Done(item)
		}
		result[name+"_many_us"] = float64(time.Since(started).Microseconds()) / float64(*many)
		all.ShutDown()
	}
	return result
}

func requests(count int) []reconcile.Request {
	made := make([]reconcile.Request, count)
	for number := range made {
		made[number].Namespace = "team-" + strconv.Itoa(number%20)
		made[number].Name = fmt.Sprintf("object-%07d", number)
	}
	return made
}
