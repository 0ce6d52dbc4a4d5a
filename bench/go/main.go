// Command peer measures controller-runtime and client-go with the same work that the benches give to
// kaito.runtime. Each subcommand prints one JSON object.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
)

var commands = map[string]func(arguments []string) any{
	"contention": contention,
	"idle":       idle,
	"latency":    latency,
	"load":       load,
	"noop":       noop,
	"queue":      queue,
	"select":     selection,
	"sync":       syncCache,
	"version":    func([]string) any { return map[string]any{} },
}

func main() {
	ctrl.SetLogger(logr.Discard())
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peer contention|idle|latency|load|noop|queue|select|sync|version [flags]")
		os.Exit(2)
	}
	result := commands[os.Args[1]](os.Args[2:])
	encoded, err := json.Marshal(map[string]any{"result": result, "versions": versions()})
	check(err)
	fmt.Println(string(encoded))
}

// versions of what was compiled in.
func versions() map[string]string {
	found := map[string]string{"go": strings.TrimPrefix(runtime.Version(), "go")}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			switch module.Path {
			case "sigs.k8s.io/controller-runtime":
				found["controller-runtime"] = module.Version
			case "k8s.io/client-go":
				found["client-go"] = module.Version
			}
		}
	}
	return found
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// configuration without client-side rate limits; content is "json" or "protobuf".
func configuration(kubeconfig, content string) *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	check(err)
	config.QPS = -1
	config.ContentType = "application/json"
	if content == "protobuf" {
		config.ContentType = "application/vnd.kubernetes.protobuf"
	}
	return config
}

// memory reads a field of /proc/self/status (VmRSS: now, VmHWM: the peak) in MiB.
func memory(field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			check(err)
			return kib / 1024
		}
	}
	return 0
}

// percentiles of durations, in milliseconds.
func percentiles(durations []time.Duration) map[string]float64 {
	slices.Sort(durations)
	at := func(share float64) float64 {
		if len(durations) == 0 {
			return 0
		}
		return float64(durations[int(share*float64(len(durations)-1))].Nanoseconds()) / 1e6
	}
	return map[string]float64{"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1)}
}
