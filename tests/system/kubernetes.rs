//! `TrafficReplay` resources in a real Kubernetes API, with the real operator, control plane and responders.
//!
//! The operator runs as the service account that `deploy/crd/operator-role.yaml` is for, so that a right which the role lacks fails here. There is no kubelet
//! and no controller: the tests say that pods are ready, and run what the pods would run.

mod election;
mod life;
mod pod;
mod routing;
mod secrets;
mod world;
