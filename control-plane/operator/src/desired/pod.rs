//! What all pods have in common: they run as nobody in particular, write nowhere, and get secrets as whole directories.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, EmptyDirVolumeSource, LocalObjectReference, PodSecurityContext,
        SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{names, settings::Settings};

/// Where secrets are mounted, one directory for each.
pub const SECRET_ROOT: &str = "/home/speedscale/secret";
/// The certificate that is shown to the control plane.
pub(super) const TLS_DIR: &str = "/etc/countersign/tls";
/// Nobody, as distroless images know it.
const USER: i64 = 65532;
/// For the owner alone. The kubelet adds the right of the group to read, so that a process that is not root can.
const SECRET_MODE: i32 = 0o400;

/// What `restricted` of the Pod Security Standards asks of pods.
pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// The same of containers.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..SecurityContext::default()
    }
}

/// The volume of a secret. A missing one is no reason for a pod to wait: it is told, and mounted once it is there.
pub(super) fn secret_volume(name: &str, is_optional: bool) -> Volume {
    Volume {
        name: volume_name(name),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(SECRET_MODE),
            optional: Some(is_optional),
            items: None,
        }),
        ..Volume::default()
    }
}

fn volume_name(secret: &str) -> String {
    names::label("secret", secret)
}

/// The whole directory, so that a rotation shows.
pub(super) fn secret_mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume_name(name),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// An empty directory that ends with the pod.
pub(super) fn scratch(name: &str, limit: Option<&str>) -> Volume {
    let size_limit = limit.map(|limit| Quantity(limit.to_owned()));
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit, ..EmptyDirVolumeSource::default() }),
        ..Volume::default()
    }
}

/// Where it is.
pub(super) fn scratch_mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// What images are pulled with.
pub(super) fn pull_secrets(settings: &Settings) -> Option<Vec<LocalObjectReference>> {
    let named = settings.image_pull_secrets.iter().filter(|name| !name.is_empty());
    let secrets: Vec<_> = named.map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!secrets.is_empty()).then_some(secrets)
}
