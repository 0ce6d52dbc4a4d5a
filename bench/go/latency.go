package main

import (
	"context"
	"flag"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// reads remembers when how many bytes of a connection had been read.
type reads struct {
	net.Conn
	lock  sync.Mutex
	total int64
	ends  []int64
	times []time.Time
}

func (r *reads) Read(buffer []byte) (int, error) {
	count, err := r.Conn.Read(buffer)
	now := time.Now()
	r.lock.Lock()
	defer r.lock.Unlock()
	r.total += int64(count)
	r.ends, r.times = append(r.ends, r.total), append(r.times, now)
	return count, err
}

// latency follows the paced events of the feed server. All events occupy the same number of bytes on the wire, and the
// stream carries nothing after the last of them, so the end of each event in the stream is known.
func latency(arguments []string) any {
	flags := flag.NewFlagSet("latency", flag.ExitOnError)
	url := flags.String("url", "", "of the feed server")
	count := flags.Int("events", 10_000, "events that the server sends")
	size := flags.Int64("bytes", 0, "bytes of one event on the wire")
	objects := flags.Int("objects", 1000, "event n changes object n modulo this")
	check(flags.Parse(arguments))

	var lock sync.Mutex
	var connections []*reads
	config := &rest.Config{Host: *url, QPS: -1}
	config.ContentType = "application/json"
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		lock.Lock()
		defer lock.Unlock()
		connections = append(connections, &reads{Conn: connection})
		return connections[len(connections)-1], nil
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	store, err := cache.New(config, cache.Options{Scheme: scheme(), Mapper: mapper})
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { check(store.Start(ctx)) }()
	informer, err := store.GetInformer(ctx, &corev1.Pod{})
	check(err)

	handled, reconciled := make([]time.Time, *count), make([]time.Time, *count)
	rounds := make([]int, *objects)
	var seen sync.WaitGroup
	seen.Add(2 * *count)
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{UpdateFunc: func(_, object any) {
		number, err := strconv.Atoi(object.(*corev1.Pod).Annotations["example.com/event"])
		check(err)
		handled[number] = time.Now()
		seen.Done()
	}})
	check(err)
	priority := true
	loop, err := controller.NewUnmanaged("latency", controller.Options{
		MaxConcurrentReconciles: 1,
		UsePriorityQueue:        &priority,
		Logger:                  logr.Discard(),
		Reconciler: reconcile.Func(func(_ context.Context, request reconcile.Request) (reconcile.Result, error) {
			now := time.Now()
			object, err := strconv.Atoi(request.Name[len("worker-"):])
			check(err)
			if rounds[object] > 0 { // the first is for the initial list
				reconciled[(rounds[object]-1)**objects+object] = now
				seen.Done()
			}
			rounds[object]++
			return reconcile.Result{}, nil
		}),
	})
	check(err)
	check(loop.Watch(&source.Informer{Informer: informer, Handler: &handler.EnqueueRequestForObject{}}))
	go func() { check(loop.Start(ctx)) }()
	seen.Wait()

	stream := slices.MaxFunc(connections, func(a, b *reads) int { return int(a.total - b.total) })
	first := stream.total - *size*int64(*count)
	toHandler, toReconcile := make([]time.Duration, *count), make([]time.Duration, *count)
	for number := range *count {
		end := first + *size*int64(number+1)
		at, _ := slices.BinarySearch(stream.ends, end)
		toHandler[number] = handled[number].Sub(stream.times[at])
		toReconcile[number] = reconciled[number].Sub(stream.times[at])
	}
	return map[string]any{"handler": percentiles(toHandler), "reconcile": percentiles(toReconcile)}
}
