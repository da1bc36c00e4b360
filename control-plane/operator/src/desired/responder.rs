//! The responders: a Deployment of them, and the Service that leads to them.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
            PodSpec, PodTemplateSpec, Probe, Service, ServicePort, ServiceSpec,
            TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{labels, metadata, pod, selected, selector};
use crate::{plan::Plan, routing, settings::Settings};

/// Recorded traffic.
pub const DATA_PORT: i32 = 4140;
/// Probes and metrics.
pub const ADMIN_PORT: i32 = 4141;
/// Responders that share turns.
pub const PEER_PORT: i32 = 4143;

pub(super) const APP: &str = "countersign-responder";
const CACHE: &str = "/var/cache/countersign";
const AUTHORITY: &str = "/etc/countersign/ca";
const TOKEN: &str = "/etc/countersign/token";

/// The responders.
#[must_use]
pub fn deployment(plan: &Plan, settings: &Settings) -> Deployment {
    Deployment {
        metadata: metadata(plan, &plan.object, APP),
        spec: Some(DeploymentSpec {
            replicas: Some(plan.replicas),
            selector: selector(selected(plan, APP)),
            // One more before one less: there is always somebody who answers.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(plan, APP)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(plan, settings)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod_spec(plan: &Plan, settings: &Settings) -> PodSpec {
    let (volumes, mounts) = volumes(plan, settings);
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod::pod_security()),
        image_pull_secrets: pod::pull_secrets(settings),
        termination_grace_period_seconds: Some(30),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(selector(selected(plan, APP))),
            ..TopologySpreadConstraint::default()
        }]),
        containers: vec![Container {
            name: "responder".to_owned(),
            image: Some(settings.responder_image.clone()),
            args: Some(arguments(plan, settings)),
            env: Some(environment(plan)),
            ports: Some(ports(plan)),
            readiness_probe: Some(probe("/readyz", 2, 3)),
            liveness_probe: Some(probe("/healthz", 10, 3)),
            startup_probe: Some(probe("/healthz", 1, 60)),
            resources: Some(plan.responder_resources.clone()),
            security_context: Some(pod::container_security()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// What a responder is started with.
fn arguments(plan: &Plan, settings: &Settings) -> Vec<String> {
    let mut arguments: Vec<String> = [
        ("--control-plane", settings.pods_control_plane().to_string()),
        ("--project", settings.project.clone()),
        ("--replays", plan.replay_id.clone()),
        ("--listen", format!("0.0.0.0:{DATA_PORT}")),
        ("--admin-listen", format!("0.0.0.0:{ADMIN_PORT}")),
        ("--cache-dir", CACHE.to_owned()),
        ("--drain-delay", "5s".to_owned()),
        ("--log-format", "json".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    // The network policy lets nobody but probes and those that scrape metrics reach the admin port.
    arguments.push("--allow-insecure".to_owned());
    let mut more = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    if settings.responder_tls_secret.is_some() {
        for (flag, file) in [
            ("--control-plane-ca", "ca.crt"),
            ("--client-cert", "tls.crt"),
            ("--client-key", "tls.key"),
        ] {
            more(flag, format!("{}/{file}", pod::TLS_DIR));
        }
    }
    if settings.responder_token_secret.is_some() {
        more("--token-file", format!("{TOKEN}/token"));
    }
    if plan.tls_secret.is_some() {
        more("--tls-ca", AUTHORITY.to_owned());
    }
    if shares_turns(plan) {
        more("--peer-listen", format!("0.0.0.0:{PEER_PORT}"));
    }
    if plan.generate_key.is_some() {
        arguments.push("--serve-jwks".to_owned());
    }
    arguments
}

fn shares_turns(plan: &Plan) -> bool {
    plan.replicas > 1
}

fn environment(plan: &Plan) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    };
    let text = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let mut environment = vec![
        field("COUNTERSIGN_NAME", "metadata.name"),
        text("RUST_LOG", plan.log_level.to_owned()),
    ];
    if shares_turns(plan) {
        environment.push(field("POD_IP", "status.podIP"));
        environment.push(text("COUNTERSIGN_PEER_ADVERTISE", format!("$(POD_IP):{PEER_PORT}")));
    }
    environment
}

fn ports(plan: &Plan) -> Vec<ContainerPort> {
    let port = |name: &str, number: i32| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port("data", DATA_PORT), port("admin", ADMIN_PORT)];
    if shares_turns(plan) {
        ports.push(port("peers", PEER_PORT));
    }
    ports
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn volumes(plan: &Plan, settings: &Settings) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![pod::scratch("cache", None)];
    let mut mounts = vec![pod::scratch_mount("cache", CACHE)];
    for (place, secret) in &plan.secrets {
        volumes.push(pod::secret_volume(secret, true));
        mounts.push(pod::secret_mount(secret, &format!("{}/{place}", pod::SECRET_ROOT)));
    }
    let needed = [
        (&settings.responder_tls_secret, pod::TLS_DIR),
        (&settings.responder_token_secret, TOKEN),
        (&plan.tls_secret, AUTHORITY),
    ];
    for (secret, path) in
        needed.into_iter().filter_map(|(secret, path)| Some((secret.as_ref()?, path)))
    {
        let volume = pod::secret_volume(secret, false);
        // One secret may serve for several things; then nothing works without it.
        volumes.retain(|known| known.name != volume.name);
        volumes.push(volume);
        mounts.push(pod::secret_mount(secret, path));
    }
    (volumes, mounts)
}

/// The way to the responders: the ports that hosts are reached at by default and those that the replay names, all for one port of the pods, and the ports
/// of the responders themselves.
#[must_use]
pub fn service(plan: &Plan) -> Service {
    let port = |name: &str, number: i32, target: &str| ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::String(target.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let mut ports = vec![
        port("http", 80, "data"),
        port("https", 443, "data"),
        port("grpc", DATA_PORT, "data"),
        port("admin", ADMIN_PORT, "admin"),
    ];
    for number in routing::ports(&plan.targets).into_iter().map(i32::from) {
        if ports.iter().all(|known| known.port != number) {
            ports.push(port(&format!("port-{number}"), number, "data"));
        }
    }
    Service {
        metadata: metadata(plan, &plan.object, APP),
        spec: Some(ServiceSpec {
            selector: Some(selected(plan, APP)),
            ports: Some(ports),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
