//! Who may call what. One table for all services; a service that is not in it may be called by nobody.
//!
//! Where clients show certificates, each call is judged here before its service hears of it, and the services ask here what a caller may see.
//! Where they show none, as on loopback, everybody may do everything.

use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
};

use countersign_proto::{
    control::v1::{
        console_service_server::ConsoleServiceServer, inspect_service_server::InspectServiceServer,
        replay_service_server::ReplayServiceServer, report_service_server::ReportServiceServer,
        snapshot_service_server::SnapshotServiceServer,
        test_config_service_server::TestConfigServiceServer,
        traffic_service_server::TrafficServiceServer,
        transform_service_server::TransformServiceServer,
    },
    discovery::v1::{
        Hello, chunk_service_server::ChunkServiceServer,
        discovery_service_server::DiscoveryServiceServer, tally_service_server::TallyServiceServer,
    },
};
use countersign_tls::{
    accept::{Caller, Secured},
    identity::{Identity, Role},
};
use futures_util::future::{Either, Ready, ready};
use tonic::{Code, Status, body::Body, server::NamedService, transport::server::Connected};
use tower_layer::Layer;
use tower_service::Service;

use super::{Problem, name::Name};

/// Who may call a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Whoever has an identity.
    Anybody,
    /// Responders.
    Responders,
    /// Users.
    Users,
    /// Responders, for what their replays are made of, and users; the service asks [`Peer`] which of them it is.
    Readers,
}

/// The table.
const TABLE: [(&str, Who); 14] = [
    (SnapshotServiceServer::<()>::NAME, Who::Users),
    (TransformServiceServer::<()>::NAME, Who::Users),
    (TestConfigServiceServer::<()>::NAME, Who::Users),
    (ReplayServiceServer::<()>::NAME, Who::Users),
    (InspectServiceServer::<()>::NAME, Who::Users),
    (TrafficServiceServer::<()>::NAME, Who::Users),
    (ConsoleServiceServer::<()>::NAME, Who::Users),
    (ReportServiceServer::<()>::NAME, Who::Users),
    (TallyServiceServer::<()>::NAME, Who::Responders),
    (DiscoveryServiceServer::<()>::NAME, Who::Responders),
    (ChunkServiceServer::<()>::NAME, Who::Readers),
    ("grpc.health.v1.Health", Who::Anybody),
    ("grpc.reflection.v1.ServerReflection", Who::Users),
    ("grpc.reflection.v1alpha.ServerReflection", Who::Users),
];

impl Who {
    fn includes(self, role: &Role) -> bool {
        match self {
            Self::Anybody => true,
            Self::Responders => matches!(role, Role::Responder { .. }),
            Self::Users => matches!(role, Role::User { .. }),
            Self::Readers => matches!(role, Role::Responder { .. } | Role::User { .. }),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anybody => "whoever has an identity",
            Self::Responders => "responders",
            Self::Users => "users",
            Self::Readers => "responders and users",
        })
    }
}

/// Judges a call by its path, `/{service}/{method}`.
fn judge(identity: &Identity, path: &str) -> Result<(), Problem> {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let service = service.map_or("", |(service, _)| service);
    let row = TABLE.iter().find(|(name, _)| *name == service);
    match row {
        Some((_, who)) if who.includes(&identity.role) => Ok(()),
        Some((_, who)) => Err(Problem::Denied {
            reason: "ROLE_NOT_ALLOWED",
            message: format!("{identity} may not call {service}, which is for {who}"),
        }),
        None => Err(Problem::Denied {
            reason: "ROLE_NOT_ALLOWED",
            message: format!("nobody may call {path}"),
        }),
    }
}

/// Who calls, as services find it with each request; absent where callers are not asked.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Caller);

impl Peer {
    /// Whom the certificate names.
    fn identity(&self) -> Option<&Identity> {
        match &self.0 {
            Caller::Known(identity) => Some(identity),
            Caller::Anonymous | Caller::Unknown(_) => None,
        }
    }

    /// Whether it may subscribe as this responder.
    pub(crate) fn may_be(&self, hello: &Hello) -> Result<(), Problem> {
        let Some(identity) = self.identity() else { return Ok(()) };
        let Role::Responder { project, name } = &identity.role else { return Ok(()) };
        let is_project = hello.project.strip_prefix("projects/") == Some(project);
        let is_name = name.as_deref().is_none_or(|name| name == hello.responder);
        if is_project && is_name {
            return Ok(());
        }
        let said: String = hello.responder.chars().filter(|c| !c.is_control()).collect();
        let message = format!(
            "the certificate is of {identity}, which may not subscribe as the responder `{said}` of {}",
            hello.project
        );
        tracing::info!(problem = message, "subscription refused");
        Err(Problem::Denied { reason: "WRONG_IDENTITY", message })
    }

    /// Whether it may do what only users may in a service that is for responders as well.
    pub(crate) fn is_user(&self) -> Result<(), Problem> {
        match self.identity() {
            Some(identity) if !Who::Users.includes(&identity.role) => Err(Problem::Denied {
                reason: "ROLE_NOT_ALLOWED",
                message: format!("{identity} may only read what its replays are made of"),
            }),
            _ => Ok(()),
        }
    }

    /// Whether it may read what belongs to this replay.
    pub(crate) fn may_read(&self, replay: &Name) -> Result<(), Problem> {
        let Some(identity) = self.identity() else { return Ok(()) };
        match &identity.role {
            Role::Responder { project, .. }
                if replay.project.strip_prefix("projects/") != Some(project) =>
            {
                Err(Problem::Denied {
                    reason: "WRONG_IDENTITY",
                    message: format!("{identity} may not read what belongs to {}", replay.full),
                })
            }
            _ => Ok(()),
        }
    }
}

/// A connection whose caller is handed on with each request.
#[derive(Debug)]
pub(crate) struct Connection(Secured);

impl From<Secured> for Connection {
    fn from(secured: Secured) -> Self {
        Self(secured)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.0.caller().clone())
    }
}

mod io {
    //! A connection reads and writes as what it wraps.

    use std::{
        io::Result,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, ReadBuf};

    use super::Connection;

    impl AsyncRead for Connection {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    countersign_tls::forward_write!(Connection, 0);
}

/// Stands before all services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    /// Whether callers have to have an identity.
    pub(crate) closed: bool,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, closed: self.closed }
    }
}

/// Services behind a guard.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    closed: bool,
}

impl<S> Guarded<S> {
    fn check(&self, request: &http::Request<Body>) -> Result<(), Problem> {
        if !self.closed {
            return Ok(());
        }
        let message = match request.extensions().get::<Peer>() {
            Some(Peer(Caller::Known(identity))) => return judge(identity, request.uri().path()),
            Some(Peer(Caller::Unknown(why))) => why.to_string(),
            Some(Peer(Caller::Anonymous)) | None => "there is no certificate".to_owned(),
        };
        let (code, reason) = (Code::PermissionDenied, "NO_IDENTITY");
        Err(Problem::Protocol { code, reason, message })
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<http::Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(problem) => {
                tracing::info!(path = request.uri().path(), %problem, "call refused");
                Either::Right(ready(Ok(Status::from(problem).into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign_proto::FILE_DESCRIPTOR_SET;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn identity(role: &str) -> Identity {
        format!("spiffe://a.example/{role}").parse().unwrap()
    }

    fn may(role: &str, path: &str) -> bool {
        judge(&identity(role), path).is_ok()
    }

    /// Package, service and path of every call of all planes.
    fn calls() -> Vec<(String, String, String)> {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut calls = Vec::new();
        for file in &set.file {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                calls.extend(service.method.iter().map(|method| {
                    let path = format!("/{full}/{}", method.name());
                    (file.package().to_owned(), full.clone(), path)
                }));
            }
        }
        calls
    }

    #[test]
    fn every_call_of_every_service_is_for_those_whom_it_serves() {
        let calls = calls();
        assert!(calls.len() > 40, "{}", calls.len());
        for (package, service, path) in &calls {
            // The service itself keeps responders to what their replays are made of.
            let shared = service == ChunkServiceServer::<()>::NAME;
            let roles = [
                ("user/anna", shared || package == "countersign.control.v1"),
                ("responder/p/one", package == "countersign.discovery.v1"),
                ("responder/p", package == "countersign.discovery.v1"),
                ("control-plane/main", false),
            ];
            for (role, expected) in roles {
                assert_eq!(may(role, path), expected, "{role} {path}");
            }
        }
    }

    #[test]
    fn every_service_of_this_plane_is_in_the_table_and_nothing_else() {
        let mut served: Vec<String> = calls().into_iter().map(|(_, service, _)| service).collect();
        served.retain(|service| !service.starts_with("countersign.responder."));
        served.sort();
        served.dedup();
        let mut listed: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        listed.retain(|name| name.starts_with("countersign."));
        listed.sort_unstable();
        assert_eq!(listed, served);
    }

    #[test]
    fn health_is_for_all_and_what_is_unknown_for_nobody() {
        for role in ["user/anna", "responder/p/one", "control-plane/main"] {
            assert!(may(role, "/grpc.health.v1.Health/Check"), "{role}");
            for path in ["", "/", "/x", "/x/y", "grpc.health.v1.Health/Check", "//Check"] {
                assert!(!may(role, path), "{role} {path}");
            }
        }
        assert!(may("user/anna", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        assert!(!may("responder/p", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
    }

    #[test]
    fn a_responder_subscribes_as_itself_only() {
        let may = |role: &str, project: &str, name: &str| {
            let peer = Peer(Caller::Known(Arc::new(identity(role))));
            let hello =
                Hello { project: project.into(), responder: name.into(), ..Hello::default() };
            peer.may_be(&hello).is_ok()
        };
        assert!(may("responder/p/one", "projects/p", "one"));
        assert!(may("responder/p", "projects/p", "any"));
        for (role, project, name) in [
            ("responder/p/one", "projects/p", "two"),
            ("responder/p/one", "projects/p", ""),
            ("responder/p/one", "projects/q", "one"),
            ("responder/p", "projects/q", "one"),
            ("responder/p", "projects/p/x", "one"),
            ("responder/p", "p", "one"),
        ] {
            assert!(!may(role, project, name), "{role} {project} {name}");
        }
    }

    #[test]
    fn a_responder_reads_what_is_its_projects_only() {
        let may = |role: &str, replay: &str| {
            let peer = Peer(Caller::Known(Arc::new(identity(role))));
            let name = Name::parse(crate::store::Kind::Replay, "replay", replay).unwrap();
            peer.may_read(&name).is_ok()
        };
        assert!(may("responder/p/one", "projects/p/replays/r"));
        assert!(!may("responder/p/one", "projects/q/replays/r"));
        assert!(!may("responder/p", "projects/pp/replays/r"));
    }
}
