//! The Kubernetes operator: whoever applies a `TrafficReplay` gets responders that serve a snapshot of the control plane with freshly signed tokens.
//!
//! [`reconcile`] is the main path. [`plan`] decides from the resource ([`crd`]), the control plane's facts ([`plane`]) and the [`settings`]; [`desired`] makes
//! the objects of it, [`cluster`] applies them, [`routing`] leads workloads to them, [`status`] tells how it stands. [`lease`] decides who does all that.
//! It knows the contract of the control plane and nothing of its insides, and it reads no secret.

pub mod app;
pub mod cluster;
pub mod crd;
pub mod desired;
pub mod duration;
#[cfg(test)]
mod fake;
pub mod keys;
pub mod lease;
pub mod names;
pub mod plan;
pub mod plane;
pub mod rbac;
pub mod reconcile;
pub mod routing;
pub mod settings;
pub mod status;
pub mod submit;
pub mod test_config;
pub mod watches;
pub mod yaml;

/// Makes AWS-LC the one provider of cryptography of this process. To be called first in every `main` and test.
pub fn install_cryptography() {
    // Somebody else has done it already: then it is the same one, since there is no other in the tree.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
