//! The generator: a Job that sends the recorded requests to the workload.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, EnvVar, EnvVarSource, PodSpec, PodTemplateSpec, SecretKeySelector},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{labels, metadata, pod};
use crate::{names, plan::Plan, settings::Settings};

const APP: &str = "countersign-generator";
const TMP: &str = "/tmp";

/// What `countersign` is started with.
#[must_use]
pub fn load_args(plan: &Plan, settings: &Settings, to: &str) -> Vec<String> {
    let server = settings.pods_control_plane().to_string();
    let mut arguments = vec!["load", "--snapshot", &plan.snapshot, "--to", to];
    arguments.extend(["--server", &server, "--project", &settings.project]);
    // The built-in one says nothing about generating.
    if plan.test_config != "standard" {
        arguments.extend(["--test-config", &plan.test_config]);
    }
    if let Some(transform) = &plan.transform {
        arguments.extend(["--transform", transform]);
        if !plan.secrets.is_empty() {
            arguments.extend(["--secret-dir", pod::SECRET_ROOT]);
        }
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// The variable with the token that the command shows to the control plane.
fn token(secret: &str) -> EnvVar {
    EnvVar {
        name: "COUNTERSIGN_TOKEN".to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: "token".to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

/// The generator of a replay, which runs once.
#[must_use]
pub fn job(plan: &Plan, settings: &Settings, to: &str) -> Job {
    let name = names::generator(&plan.name, &plan.start, to);
    let mut volumes = vec![pod::scratch("tmp", Some("1Gi"))];
    let mut mounts = vec![pod::scratch_mount("tmp", TMP)];
    let text = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let mut environment =
        vec![text("HOME", TMP.to_owned()), text("RUST_LOG", plan.log_level.to_owned())];
    if let Some(secret) = &settings.generator_tls_secret {
        volumes.push(pod::secret_volume(secret, false));
        mounts.push(pod::secret_mount(secret, pod::TLS_DIR));
        for (variable, file) in [
            ("COUNTERSIGN_SERVER_CA", "ca.crt"),
            ("COUNTERSIGN_CLIENT_CERT", "tls.crt"),
            ("COUNTERSIGN_CLIENT_KEY", "tls.key"),
        ] {
            environment.push(text(variable, format!("{}/{file}", pod::TLS_DIR)));
        }
    }
    if let Some(secret) = &settings.generator_token_secret {
        environment.push(token(secret));
    }
    if plan.transform.is_some() {
        for (place, secret) in &plan.secrets {
            volumes.push(pod::secret_volume(secret, true));
            mounts.push(pod::secret_mount(secret, &format!("{}/{place}", pod::SECRET_ROOT)));
        }
    }
    // One secret may serve for several things.
    let mut known = BTreeSet::new();
    volumes.retain(|volume| known.insert(volume.name.clone()));
    Job {
        metadata: metadata(plan, &name, APP),
        spec: Some(JobSpec {
            // Requests that were sent change the workload; sending them again is for people to decide.
            backoff_limit: Some(0),
            active_deadline_seconds: plan
                .timeout
                .map(|timeout| i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(plan, APP)),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    restart_policy: Some("Never".to_owned()),
                    security_context: Some(pod::pod_security()),
                    image_pull_secrets: pod::pull_secrets(settings),
                    containers: vec![Container {
                        name: "generator".to_owned(),
                        image: Some(settings.generator_image.clone()),
                        args: Some(load_args(plan, settings, to)),
                        env: Some(environment),
                        resources: Some(plan.generator_resources.clone()),
                        security_context: Some(pod::container_security()),
                        volume_mounts: Some(mounts),
                        ..Container::default()
                    }],
                    volumes: Some(volumes),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}
