module kaito.sh/hack/cluster/pause

go 1.24.0
