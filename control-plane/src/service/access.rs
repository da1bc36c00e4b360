//! Who may call what. Each call is judged here before its service hears of it: who calls, by what they show; whether the method is for them, by one table;
//! and whether what its first message names is theirs, in the same words as if it did not exist.
//!
//! Where callers are asked for nothing, as on loopback, everybody may do everything. [`Guard`] stands before every listener that serves these methods,
//! whatever protocol carries them; what it knows of the caller is the [`Peer`] that the listener puts into the request.

mod first;
mod outcome;
mod table;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use countersign_proto::discovery::v1::Hello;
use countersign_tls::accept::{Caller, Secured};
use http::{HeaderMap, HeaderValue, Request};
use tonic::{
    Code, Status,
    body::Body,
    transport::server::{Connected, TcpConnectInfo},
};
use tower_layer::Layer;
use tower_service::Service;

use self::{
    first::{First, Judge},
    outcome::Follow,
    table::{Effect, Least, Mention, Row},
};
use super::{Problem, name::Name};
use crate::{
    audit::{Audit, Entry},
    auth::{
        Authority, Said, Stranger,
        rights::{Level, Principal, Rights},
    },
};

/// Judges whether this caller may call a method at all.
fn may_call(who: &Principal, row: &Row) -> Result<(), Problem> {
    let highest = who.rights.highest();
    let is_responder = matches!(who.rights, Rights::Responder { .. });
    let may = match row.least {
        Least::Anybody => true,
        Least::Responder => is_responder,
        Least::ResponderOr(level) => is_responder || highest >= Some(level),
        Least::User(level) => highest >= Some(level),
    };
    if may { Ok(()) } else { Err(denied(who, row.path, row.least)) }
}

/// Judges whether what a message names is this caller's.
fn may_touch(who: &Principal, row: &Row, mentions: &[Mention]) -> Result<(), Problem> {
    let (Least::User(least) | Least::ResponderOr(least)) = row.least else { return Ok(()) };
    if matches!(who.rights, Rights::Responder { .. }) {
        // The service knows what belongs to its project.
        return Ok(());
    }
    for mention in mentions {
        let project = mention.project()?;
        let Some(level) = who.rights.level(&project) else { return Err(mention.absent()) };
        let needed = if mention.is_subject { least } else { Level::Viewer };
        if level < needed {
            return Err(Problem::Denied {
                reason: "ROLE_NOT_ALLOWED",
                message: format!(
                    "{who} is {level} in the project {project}, and {} needs {needed}",
                    row.path
                ),
            });
        }
    }
    Ok(())
}

fn denied(who: &Principal, path: &str, least: Least) -> Problem {
    let whom = match least {
        Least::Anybody => "everybody".to_owned(),
        Least::Responder => "responders".to_owned(),
        Least::ResponderOr(level) => format!("responders, and users who are at least {level}"),
        Least::User(level) => format!("users who are at least {level}"),
    };
    Problem::Denied {
        reason: "ROLE_NOT_ALLOWED",
        message: format!("{who} may not call {path}, which is for {whom}"),
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Self {
        let (code, reason) = match stranger {
            Stranger::Nothing(_) => (Code::Unauthenticated, "NO_CREDENTIALS"),
            Stranger::Certificate(_) | Stranger::Unlisted(_) => {
                (Code::PermissionDenied, "NO_IDENTITY")
            }
            Stranger::Token | Stranger::Malformed => (Code::Unauthenticated, "TOKEN_REFUSED"),
            Stranger::Expired => (Code::Unauthenticated, "TOKEN_EXPIRED"),
            Stranger::TooMany => (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"),
            Stranger::Unavailable => {
                let message = stranger.to_string();
                return Self::Unavailable { reason: "IDENTITY_PROVIDER_UNAVAILABLE", message };
            }
        };
        Self::Protocol { code, reason, message: stranger.to_string() }
    }
}

impl Principal {
    /// Whether it may subscribe as this responder.
    pub(crate) fn may_be(&self, hello: &Hello) -> Result<(), Problem> {
        let Rights::Responder { project, name } = &self.rights else { return Ok(()) };
        let is_project = hello.project.strip_prefix("projects/") == Some(project);
        let is_name = name.as_deref().is_none_or(|name| name == hello.responder);
        if is_project && is_name {
            return Ok(());
        }
        let said: String = hello.responder.chars().filter(|c| !c.is_control()).collect();
        let message = format!(
            "the credential is of {self}, which may not subscribe as the responder `{said}` of {}",
            hello.project
        );
        tracing::info!(problem = message, "subscription refused");
        Err(Problem::Denied { reason: "WRONG_IDENTITY", message })
    }

    /// Whether it may do what only users may in a service that is for responders as well.
    pub(crate) fn is_user(&self) -> Result<(), Problem> {
        match self.rights {
            Rights::User { .. } => Ok(()),
            Rights::Responder { .. } | Rights::None => Err(Problem::Denied {
                reason: "ROLE_NOT_ALLOWED",
                message: format!("{self} may only read what its replays are made of"),
            }),
        }
    }

    /// Whether it may read what this replay is made of: keys may stand in the template that is part of it.
    pub(crate) fn may_read(&self, replay: &Name) -> Result<(), Problem> {
        match &self.rights {
            Rights::Responder { project, .. }
                if replay.project.strip_prefix("projects/") != Some(project) =>
            {
                Err(Problem::Denied {
                    reason: "WRONG_IDENTITY",
                    message: format!("{self} may not read what belongs to {}", replay.full),
                })
            }
            Rights::User { .. } if self.level_of(replay) < Some(Level::Admin) => {
                Err(Problem::Denied {
                    reason: "ROLE_NOT_ALLOWED",
                    message: format!("{self} may read snapshots, not what replays are made of"),
                })
            }
            _ => Ok(()),
        }
    }

    fn level_of(&self, name: &Name) -> Option<Level> {
        self.rights.level(name.project.strip_prefix("projects/").unwrap_or(&name.project))
    }
}

/// Who is at the other end of a connection, as a listener tells.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// What they have shown.
    pub(crate) caller: Caller,
    /// From where they come.
    pub(crate) from: Option<SocketAddr>,
}

impl Peer {
    /// Who has sent a request.
    fn of<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self {
            caller: Caller::Anonymous,
            from: extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr),
        })
    }
}

/// A connection whose caller is handed on with each request.
#[derive(Debug)]
pub(crate) struct Connection(Secured);

impl Connection {
    /// From where it comes.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.0.peer()
    }
}

impl From<Secured> for Connection {
    fn from(secured: Secured) -> Self {
        Self(secured)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { caller: self.0.caller().clone(), from: self.0.peer() }
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
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    authority: Arc<Authority>,
    audit: Audit,
    /// The listener before it has judged whether a page may call.
    behind_door: bool,
}

impl Guard {
    pub(crate) fn new(authority: Arc<Authority>, audit: Audit) -> Self {
        Self { authority, audit, behind_door: false }
    }

    /// The same for a listener that judges by itself which pages may call.
    pub(crate) fn behind_door(self) -> Self {
        Self { behind_door: true, ..self }
    }

    /// Lets a request through to its service, or tells why not.
    async fn judge(&self, mut request: Request<Body>) -> Result<Admitted, Status> {
        let path = request.uri().path().to_owned();
        let peer = Peer::of(&request);
        let from = peer.from.map(|from| from.ip());
        if !self.behind_door
            && let Err(problem) = is_no_page(request.headers())
        {
            return Err(self.refuse(None, from, &path, problem, false));
        }
        let row = table::row(&path);
        if row.is_some_and(|row| row.least == Least::Anybody) {
            return Ok(Admitted { request, follow: None });
        }
        let said = Said::of(request.headers());
        let who = match self.authority.who(&peer.caller, from, said).await {
            Ok(who) => who,
            Err(stranger) => {
                let is_counted = matches!(stranger, Stranger::TooMany);
                return Err(self.refuse(None, from, &path, stranger.into(), is_counted));
            }
        };
        // Nobody behind the guard has a use for it, and what is not there cannot be logged.
        request.headers_mut().remove(http::header::AUTHORIZATION);
        let Some(row) = row else {
            if !self.authority.is_closed() {
                // The router says that there is no such method.
                return Ok(Admitted { request, follow: None });
            }
            let message = format!("nobody may call {}", path.chars().take(200).collect::<String>());
            let problem = Problem::Denied { reason: "ROLE_NOT_ALLOWED", message };
            return Err(self.refuse(Some(&who), from, &path, problem, false));
        };
        if self.authority.is_closed()
            && let Err(problem) = may_call(&who, row)
        {
            return Err(self.refuse(Some(&who), from, &path, problem, false));
        }
        request.extensions_mut().insert(Arc::clone(&who));
        let entry = Entry::new(Some(&who), from, &path);
        let follow = Follow::new(self.audit.clone(), entry, row.effect == Effect::Changes);
        let judged = self.names(&who, row, &follow);
        let request = match judged {
            Some(judge) => request.map(|body| First::judged(body, judge)),
            None => request,
        };
        Ok(Admitted { request, follow: Some(follow) })
    }

    /// What judges the first message of a call, where it has to be looked at.
    fn names(
        &self,
        who: &Arc<Principal>,
        row: &'static Row,
        follow: &Arc<Follow>,
    ) -> Option<Judge> {
        let names = row.names?;
        let (who, follow) = (Arc::clone(who), Arc::clone(follow));
        let is_closed = self.authority.is_closed();
        Some(Box::new(move |message| {
            // The service reads the same bytes and tells what is wrong with them.
            let Ok(mentions) = names(message) else {
                return Err(Problem::field("", "MALFORMED", "the message cannot be read"));
            };
            if let Some(subject) = mentions.first() {
                let project = subject.project().unwrap_or_default();
                follow.note(|entry| entry.about(&project, subject.text()));
            }
            if !is_closed {
                return Ok(());
            }
            may_touch(&who, row, &mentions).inspect_err(|problem| {
                if !matches!(problem, Problem::Field { .. }) {
                    tracing::info!(path = row.path, %problem, "call refused");
                    follow.note(Entry::refuse);
                }
            })
        }))
    }

    fn refuse(
        &self,
        who: Option<&Principal>,
        from: Option<IpAddr>,
        path: &str,
        problem: Problem,
        is_counted: bool,
    ) -> Status {
        // That an address is held back was logged when it began.
        if is_counted {
            self.audit.pass_over();
            return problem.into();
        }
        tracing::info!(path, %problem, "call refused");
        let mut entry = Entry::new(who, from, path);
        entry.refuse();
        let status = Status::from(problem);
        self.audit.list(entry, status.code());
        status
    }
}

/// Whether no browser sends this: one shows its user's certificate whatever page asks for it, and says so. What is no gRPC could come of a form, which
/// a browser sends anywhere without asking first (Fetch, section 3.2.2).
fn is_no_page(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc = kind.is_some_and(|kind| {
        let rest = kind.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    });
    let from_page = ["origin", "sec-fetch-site"].iter().any(|name| headers.contains_key(*name));
    if is_grpc && !from_page {
        return Ok(());
    }
    let message =
        "this port takes gRPC calls, and none of a web page; pages call the port of the UI";
    Err(Problem::Denied { reason: "NOT_FOR_PAGES", message: message.to_owned() })
}

/// A request that may go on.
struct Admitted {
    request: Request<Body>,
    follow: Option<Arc<Follow>>,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// Services behind a guard.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is the one to be called; its copy may not be yet.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let guard = self.guard.clone();
        Box::pin(async move {
            match guard.judge(request).await {
                Ok(Admitted { request, follow }) => {
                    let answer = inner.call(request).await?;
                    Ok(match follow {
                        Some(follow) => follow.answer(answer),
                        None => answer,
                    })
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
