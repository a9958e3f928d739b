"""The lab: real Kubernetes clusters and a local Exoscale API on one Linux machine."""
