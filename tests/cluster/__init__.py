"""A whole Kubernetes of one node, real from etcd to container, in namespaces of its own: for `make test-e2e`."""
