package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	listers "k8s.io/client-go/listers/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
)

// contention: tasks list everything again and again while one writer changes an object, at most ten changes ahead of the
// handler. So does client-go's BenchmarkSharedIndexInformer.
func contention(arguments []string) any {
	flags := flag.NewFlagSet("contention", flag.ExitOnError)
	count := flags.Int("objects", 10_000, "objects")
	tasks := flags.Int("tasks", 10, "readers")
	seconds := flags.Float64("seconds", 5, "how long")
	check(flags.Parse(arguments))

	items := pods(*count)
	changes := watch.NewFake()
	listed := &toolscache.ListWatch{
		ListFunc: func(metav1.ListOptions) (runtime.Object, error) {
			return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: items}, nil
		},
		WatchFunc: func(metav1.ListOptions) (watch.Interface, error) { return changes, nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	informer := toolscache.NewSharedIndexInformer(listed, &corev1.Pod{}, 0,
		toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	var writes, lists atomic.Int64
	ahead := make(chan struct{}, 10)
	_, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{UpdateFunc: func(_, _ any) {
		writes.Add(1)
		<-ahead
	}})
	check(err)
	go informer.Run(ctx.Done())
	if !toolscache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		panic("the informer did not sync")
	}
	lister := listers.NewPodLister(informer.GetIndexer())
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range *tasks {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				found, err := lister.List(labels.Everything())
				check(err)
				if len(found) != *count {
					panic(fmt.Sprintf("%d of %d objects listed", len(found), *count))
				}
				lists.Add(1)
			}
		})
	}
	group.Go(func() {
		for number := 0; ; number++ {
			changed := items[0].DeepCopy()
			changed.ResourceVersion = strconv.Itoa(2 + number)
			select {
			case <-stop:
				return
			case ahead <- struct{}{}:
				changes.Modify(changed)
			}
		}
	})
	started := time.Now()
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	elapsed := time.Since(started).Seconds()
	result := map[string]any{"lists_per_second": float64(lists.Load()) / elapsed, "writes_per_second": float64(writes.Load()) / elapsed}
	close(stop)
	group.Wait()
	return result
}

// selection: 100 of many objects, by an index over a label and by looking at every object's labels.
func selection(arguments []string) any {
	flags := flag.NewFlagSet("select", flag.ExitOnError)
	count := flags.Int("objects", 100_000, "objects")
	check(flags.Parse(arguments))
	indexer := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{
		"group": func(object any) ([]string, error) { return []string{object.(*corev1.Pod).Labels["group"]}, nil },
	})
	items := pods(*count)
	for number := range items {
		check(indexer.Add(&items[number]))
	}
	groups := *count / 100
	rounds := 2000
	started := time.Now()
	for round := range rounds {
		found, err := indexer.ByIndex("group", "group-"+strconv.Itoa(round%groups))
		check(err)
		if len(found) != 100 {
			panic(fmt.Sprintf("%d objects found", len(found)))
		}
	}
	byIndex := float64(time.Since(started).Nanoseconds()) / 1000 / float64(rounds)
	lister := listers.NewPodLister(indexer)
	started = time.Now()
	scans := 20
	for round := range scans {
		found, err := lister.List(labels.SelectorFromSet(labels.Set{"group": "group-" + strconv.Itoa(round%groups)}))
		check(err)
		if len(found) != 100 {
			panic(fmt.Sprintf("%d objects found", len(found)))
		}
	}
	byScan := float64(time.Since(started).Nanoseconds()) / 1000 / float64(scans)
	return map[string]any{"index_us": byIndex, "scan_us": byScan}
}

// pods are small; those whose numbers are equal modulo a hundredth of the count share a label.
func pods(count int) []corev1.Pod {
	made := make([]corev1.Pod, count)
	groups := max(count/100, 1)
	for number := range made {
		made[number].Namespace = "team-" + strconv.Itoa(number%20)
		made[number].Name = fmt.Sprintf("worker-%06d", number)
		made[number].UID = "0"
		made[number].ResourceVersion = "1"
		made[number].Labels = map[string]string{"group": "group-" + strconv.Itoa(number%groups), "app": "worker"}
	}
	return made
}
