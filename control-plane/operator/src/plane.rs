//! The control plane: what a replay is made of, and how the fleet serves it.
//!
//! The only file that knows the wire. What it returns are values of ours, so that all decisions are made and tested without a connection.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use countersign_proto::{
    control::v1::{
        CreateReplayRequest, DeleteReplayRequest, GetReplayRequest, GetSnapshotRequest,
        GetTestConfigRequest, GetTransformRequest, ListReplaysRequest, Replay, ReplayState,
        ResponderPhase, SnapshotState, StartReplayRequest, StopReplayRequest, WatchReplayRequest,
        replay_service_client::ReplayServiceClient, snapshot_service_client::SnapshotServiceClient,
        test_config_service_client::TestConfigServiceClient,
        transform_service_client::TransformServiceClient,
    },
    r#type::v1::{ConditionStatus, Severity},
};
use countersign_tls::{
    CertificateError,
    bearer::{Bearer, BearerError},
    client::ClientTls,
};
use futures_util::{Stream, StreamExt as _};
use tonic::{
    Code, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{
    crd::TrafficReplaySpec,
    settings::Settings,
    test_config::{self, Cluster},
};

/// A replay with all its responders may be large.
const MESSAGE_LIMIT: usize = 64 * 1024 * 1024;
/// How long an answer may take. A start compiles the whole recording.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Why the control plane did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// It has no such thing; asking again is of no use until somebody puts it there.
    #[error("the control plane has no {what}")]
    Missing {
        /// What, for example `snapshot login`.
        what: String,
    },
    /// It refuses; asking again is of no use until the request or what it is about changes.
    #[error("the control plane refuses to {doing}: {why}")]
    Refused {
        /// What it was asked for.
        doing: String,
        /// Its words.
        why: String,
    },
    /// It cannot be reached, or is not able to now.
    #[error("the control plane could not {doing}: {why}")]
    Unavailable {
        /// What it was asked for.
        doing: String,
        /// What went wrong.
        why: String,
    },
}

/// What a replay is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The snapshot's full name.
    pub snapshot: String,
    /// The transform's full name.
    pub transform: Option<String>,
    /// The test config's full name.
    pub test_config: String,
    /// What the test config says about the cluster.
    pub cluster: Cluster,
    /// The secrets that the transform's chains name, with their keys.
    pub secrets: BTreeMap<String, Vec<String>>,
}

/// How the fleet serves a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether everybody who should does.
    pub ready: bool,
    /// Why, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// How many responders serve it.
    pub serving: usize,
    /// The hosts that recorded requests went to.
    pub hosts: Vec<String>,
    /// The keys that responders looked for in vain: `secret/key`, and why.
    pub unresolved: BTreeMap<String, String>,
    /// The keys that some responder signs with: `secret/key`.
    pub resolved: Vec<String>,
    /// What was found at the start, most of it of no weight.
    pub warnings: Vec<String>,
}

/// A client of the control plane.
#[derive(Debug, Clone)]
pub struct Plane {
    wire: Wire,
    parent: Arc<str>,
}

/// A connection that shows with each call who this is.
type Wire = InterceptedService<Channel, Credential>;

/// The token in a file, which is read again for each call, so that it can be replaced; or nothing.
#[derive(Debug, Clone)]
struct Credential {
    file: Option<Arc<Path>>,
    url: http::Uri,
}

impl Credential {
    fn bearer(&self) -> Result<Bearer, BearerError> {
        let bearer = self.file.as_deref().map(Bearer::read).transpose()?;
        bearer.unwrap_or_default().towards(&self.url)
    }
}

impl Interceptor for Credential {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let bearer = self.bearer();
        bearer.map_err(|error| Status::unauthenticated(error.to_string()))?.call(request)
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum PlaneSettingsError {
    /// The URL is none.
    #[error(
        "{0} is no URL of a control plane; it looks like http://127.0.0.1:4180 or https://countersign.example:4180"
    )]
    Url(http::Uri),
    /// Certificates for a connection without TLS.
    #[error("{0} is reached without TLS, so that certificates are of no use; write https://")]
    Plaintext(http::Uri),
    /// A certificate or key cannot be used.
    #[error("TLS to the control plane cannot be spoken")]
    Certificates(#[from] CertificateError),
    /// The token cannot be shown.
    #[error("no token can be shown to the control plane")]
    Token(#[from] BearerError),
}

impl Plane {
    /// Connects when something is asked first, and again by itself.
    ///
    /// # Errors
    /// When the settings are of no use.
    pub fn new(settings: &Settings) -> Result<Self, PlaneSettingsError> {
        let url = settings.control_plane.clone();
        let tls = settings.tls();
        let endpoint = Endpoint::from(url.clone())
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let channel = match url.scheme_str() {
            Some("https") => {
                endpoint.connect_with_connector_lazy(ClientTls::read(tls)?.connector())
            }
            Some("http") if tls.is_any() => return Err(PlaneSettingsError::Plaintext(url)),
            Some("http") if url.host().is_some() => endpoint.connect_lazy(),
            _ => return Err(PlaneSettingsError::Url(url)),
        };
        let file = settings.token_file.as_deref().map(Arc::from);
        let credential = Credential { file, url: settings.control_plane.clone() };
        credential.bearer()?;
        let wire = InterceptedService::new(channel, credential);
        Ok(Self { wire, parent: settings.parent().into() })
    }

    fn name(&self, collection: &str, id: &str) -> String {
        format!("{}/{collection}/{id}", self.parent)
    }

    fn replays(&self) -> ReplayServiceClient<Wire> {
        ReplayServiceClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// Looks up what a replay is made of.
    ///
    /// # Errors
    /// When something of it is missing, or the control plane is.
    pub async fn facts(&self, spec: &TrafficReplaySpec) -> Result<Facts, PlaneError> {
        let name = self.name("snapshots", &spec.snapshot_id);
        let what = format!("snapshot {}", spec.snapshot_id);
        let mut snapshots =
            SnapshotServiceClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        let snapshot = snapshots.get_snapshot(timed(GetSnapshotRequest { name }));
        let snapshot = snapshot.await.map_err(failed(&what))?.into_inner();
        if snapshot.state() != SnapshotState::Ready {
            let doing = format!("serve the {what}");
            return Err(PlaneError::Refused { doing, why: "it is being imported".to_owned() });
        }
        let name = self.name("testConfigs", &spec.test_config_id);
        let what = format!("test config {}", spec.test_config_id);
        let mut configs = TestConfigServiceClient::new(self.wire.clone());
        let config = configs.get_test_config(timed(GetTestConfigRequest { name }));
        let config = config.await.map_err(failed(&what))?.into_inner();
        let cluster = test_config::read(&config.config_json).map_err(|error| {
            PlaneError::Refused { doing: format!("read the {what}"), why: error.to_string() }
        })?;
        let transform = match &spec.transform_id {
            Some(id) => Some(self.name("transforms", id)),
            None => Some(snapshot.transform).filter(|name| !name.is_empty()),
        };
        let secrets = match &transform {
            Some(name) => self.secrets(name).await?,
            None => BTreeMap::new(),
        };
        Ok(Facts { snapshot: snapshot.name, transform, test_config: config.name, cluster, secrets })
    }

    /// The secrets that a transform's chains name.
    async fn secrets(&self, name: &str) -> Result<BTreeMap<String, Vec<String>>, PlaneError> {
        let what = format!("transform {}", name.rsplit('/').next().unwrap_or(name));
        let mut transforms =
            TransformServiceClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        let transform =
            transforms.get_transform(timed(GetTransformRequest { name: name.to_owned() }));
        let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for secret in transform.await.map_err(failed(&what))?.into_inner().required_secrets {
            secrets.entry(secret.secret).or_default().push(secret.key);
        }
        Ok(secrets)
    }

    /// How a replay stands; `None` when there is none.
    ///
    /// # Errors
    /// When the control plane cannot tell.
    pub async fn standing(&self, id: &str) -> Result<Option<Standing>, PlaneError> {
        let name = self.name("replays", id);
        match self.replays().get_replay(timed(GetReplayRequest { name })).await {
            Ok(replay) => {
                let replay = replay.into_inner();
                Ok((replay.state() == ReplayState::Running).then(|| standing(&replay)))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(&format!("replay {id}"))(status)),
        }
    }

    /// Creates a replay unless it is there, and starts it with the newest transform and test config.
    ///
    /// # Errors
    /// When the control plane refuses, or is not there.
    pub async fn start(&self, id: &str, facts: &Facts) -> Result<Standing, PlaneError> {
        let replay = Replay {
            snapshot: facts.snapshot.clone(),
            transform: facts.transform.clone().unwrap_or_default(),
            test_config: facts.test_config.clone(),
            ..Replay::default()
        };
        let create = CreateReplayRequest {
            parent: self.parent.to_string(),
            replay_id: id.to_owned(),
            replay: Some(replay),
            ..CreateReplayRequest::default()
        };
        let what = format!("replay {id}");
        match self.replays().create_replay(timed(create)).await {
            Err(status) if status.code() != Code::AlreadyExists => {
                return Err(failed(&what)(status));
            }
            Ok(_) | Err(_) => {}
        }
        let start =
            StartReplayRequest { name: self.name("replays", id), ..StartReplayRequest::default() };
        let started = self.replays().start_replay(timed(start)).await.map_err(failed(&what))?;
        Ok(standing(&started.into_inner()))
    }

    /// Stops a replay, and perhaps deletes it; it may be gone already.
    ///
    /// # Errors
    /// When the control plane is not able to.
    pub async fn end(&self, id: &str, delete: bool) -> Result<(), PlaneError> {
        let name = self.name("replays", id);
        let ended = if delete {
            let request = DeleteReplayRequest { name, ..DeleteReplayRequest::default() };
            self.replays().delete_replay(timed(request)).await.map(drop)
        } else {
            self.replays().stop_replay(timed(StopReplayRequest { name })).await.map(drop)
        };
        match ended {
            Err(status) if status.code() != Code::NotFound => {
                Err(failed(&format!("replay {id}"))(status))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The ids of the replays that begin so.
    ///
    /// # Errors
    /// When the control plane cannot tell.
    pub async fn replays_of(&self, prefix: &str) -> Result<Vec<String>, PlaneError> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                ListReplaysRequest { parent: self.parent.to_string(), page_size: 500, page_token };
            let page = self.replays().list_replays(timed(request)).await;
            let page = page.map_err(failed("list of replays"))?.into_inner();
            let ids = page.replays.iter().filter_map(|replay| replay.name.rsplit('/').next());
            found.extend(ids.filter(|id| id.starts_with(prefix)).map(str::to_owned));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Tells each change of how a replay stands, until the connection breaks or the replay is gone.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub async fn watch(
        &self,
        id: &str,
    ) -> Result<impl Stream<Item = Standing> + Send + use<>, PlaneError> {
        let request = WatchReplayRequest { name: self.name("replays", id) };
        let watched = self.replays().watch_replay(request).await;
        let changes = watched.map_err(failed(&format!("replay {id}")))?.into_inner();
        let told = changes.take_while(|replay| std::future::ready(replay.is_ok()));
        Ok(told
            .filter_map(|replay| std::future::ready(replay.ok().map(|replay| standing(&replay)))))
    }
}

/// A request whose answer is not waited for without end.
fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// Sorts what went wrong by whether asking again helps.
fn failed(what: &str) -> impl FnOnce(Status) -> PlaneError + use<> {
    let what = what.to_owned();
    move |status| {
        let mut why = status.message().to_owned();
        let details = status.get_error_details();
        for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
            why.push_str(&format!("; {}: {}", violation.field, violation.description));
        }
        let doing = format!("answer for the {what}");
        match status.code() {
            Code::NotFound => PlaneError::Missing { what },
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::OutOfRange => PlaneError::Refused { doing, why },
            _ => PlaneError::Unavailable { doing, why },
        }
    }
}

fn standing(replay: &Replay) -> Standing {
    let ready = replay.conditions.iter().find(|condition| condition.r#type == "Ready");
    let mut standing = Standing {
        ready: ready.is_some_and(|ready| ready.status() == ConditionStatus::True),
        reason: ready.map(|ready| ready.reason.clone()).unwrap_or_default(),
        message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
        serving: replay.responders.iter().filter(|at| at.phase() == ResponderPhase::Active).count(),
        hosts: replay.hosts.clone(),
        ..Standing::default()
    };
    for responder in &replay.responders {
        for secret in &responder.secrets {
            let Some(of) = &secret.r#ref else { continue };
            let name = format!("{}/{}", of.secret, of.key);
            if secret.resolved {
                standing.resolved.push(name);
            } else {
                standing.unresolved.insert(name, secret.error.clone());
            }
        }
    }
    standing.resolved.sort();
    standing.resolved.dedup();
    let warnings = replay.diagnostics.iter().filter(|found| found.severity() != Severity::Info);
    standing.warnings =
        warnings.map(|found| format!("{}: {}", found.code, found.message)).collect();
    standing
}

#[cfg(test)]
mod tests {
    use countersign_proto::{
        control::v1::{ResponderStatus, SecretStatus},
        r#type::v1::{Condition, SecretRef},
    };

    use super::*;

    #[test]
    fn a_key_that_some_responder_lacks_is_unresolved_and_named() {
        let secret = |resolved, error: &str| SecretStatus {
            r#ref: Some(SecretRef { secret: "jwt-demo".into(), key: "tls.key".into() }),
            resolved,
            error: error.into(),
            ..SecretStatus::default()
        };
        let responder = |phase: ResponderPhase, secret| ResponderStatus {
            phase: phase.into(),
            secrets: vec![secret],
            ..ResponderStatus::default()
        };
        let replay = Replay {
            conditions: vec![Condition {
                r#type: "Ready".into(),
                status: ConditionStatus::True.into(),
                reason: "Served".into(),
                message: "all serve it".into(),
                ..Condition::default()
            }],
            responders: vec![
                responder(ResponderPhase::Active, secret(true, "")),
                responder(ResponderPhase::Fetching, secret(false, "no such file")),
            ],
            hosts: vec!["api.example.com".into()],
            ..Replay::default()
        };
        let found = standing(&replay);
        assert!(found.ready && found.serving == 1);
        assert_eq!(found.unresolved["jwt-demo/tls.key"], "no such file");
        assert_eq!(found.resolved, ["jwt-demo/tls.key"]);
        assert_eq!(found.hosts, ["api.example.com"]);
    }

    #[test]
    fn what_helps_is_told_from_what_does_not() {
        let of = |code| failed("snapshot login")(Status::new(code, "why"));
        assert_eq!(of(Code::NotFound).to_string(), "the control plane has no snapshot login");
        assert!(matches!(of(Code::FailedPrecondition), PlaneError::Refused { .. }));
        assert!(matches!(of(Code::Unavailable), PlaneError::Unavailable { .. }));
        assert!(matches!(of(Code::DeadlineExceeded), PlaneError::Unavailable { .. }));
    }
}
