//! Who calls: by certificate, by a token of the users file, or by a token of an identity provider.
//!
//! What a caller shows is judged here and becomes a [`Principal`]; what a principal may do is judged by `service/access`. Tokens are never logged, never
//! put into a message, and never kept: of those that are listed the digest is, of those of a provider nothing.

pub(crate) mod attempts;
pub mod oidc;
pub mod rights;
pub mod token;
pub mod users;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use countersign_tls::{
    accept::Caller,
    identity::{Identity, Role},
};
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use self::{
    attempts::{Attempts, Counted},
    oidc::{Oidc, OidcError},
    rights::Principal,
    users::{Known, Users, UsersError},
};
use crate::service::chain;

/// How often the file of users is read again.
const POLL: Duration = Duration::from_secs(1);
/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Whose tokens are good.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file of users.
    pub users: Option<PathBuf>,
    /// The identity provider.
    pub oidc: Option<oidc::Settings>,
}

impl Settings {
    /// Whether anybody can show a token.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.users.is_some() || self.oidc.is_some()
    }
}

/// Why callers cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file of users is of no use.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The identity provider cannot be asked.
    #[error(transparent)]
    Oidc(#[from] OidcError),
}

/// Why a caller is nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// Nothing is shown.
    #[error("{0}")]
    Nothing(&'static str),
    /// A certificate that names nobody who is known.
    #[error("{0}")]
    Certificate(String),
    /// A certificate of a user who is not listed, or not any more.
    #[error("{0} is not in the file of users")]
    Unlisted(String),
    /// A token that is no good. Why is in the log, where it is of use to those who may know.
    #[error("the token is not good here")]
    Token,
    /// A token that was good.
    #[error("the token has expired")]
    Expired,
    /// Too many that were no good.
    #[error("too many tokens from this address were no good; try again in a minute")]
    TooMany,
    /// The identity provider's keys cannot be had.
    #[error("the identity provider does not answer, so that its tokens cannot be checked")]
    Unavailable,
    /// What is shown is not written as it has to be.
    #[error("the token is sent as `authorization: Bearer TOKEN`, once")]
    Malformed,
}

/// Tells who calls.
#[derive(Debug)]
pub(crate) struct Authority {
    /// Whether callers have to be somebody.
    closed: bool,
    settings: Settings,
    users: Option<ArcSwap<Users>>,
    /// What was wrong with the file when it was read last.
    problem: Mutex<Option<String>>,
    oidc: Option<Arc<Oidc>>,
    attempts: Attempts,
}

impl Authority {
    /// Reads the file of users. `mutual` is whether callers may show certificates.
    pub(crate) fn new(settings: Settings, mutual: bool) -> Result<Arc<Self>, AuthError> {
        let users = settings.users.as_deref().map(Users::read).transpose()?;
        let oidc = settings.oidc.clone().map(Oidc::new).transpose()?;
        Ok(Arc::new(Self {
            closed: mutual || settings.is_any(),
            users: users.map(ArcSwap::from_pointee),
            settings,
            problem: Mutex::default(),
            oidc,
            attempts: Attempts::default(),
        }))
    }

    /// Whether callers have to be somebody.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads the file of users again, for ever.
    pub(crate) async fn poll(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            // That the runtime ends is no failure.
            drop(tokio::task::spawn_blocking(move || this.reload()).await);
        }
    }

    /// Reads the file of users again. Calls that go on are not judged anew.
    fn reload(&self) {
        let (Some(path), Some(users)) = (&self.settings.users, &self.users) else { return };
        let problem = match Users::read(path) {
            Ok(read) => {
                users.store(Arc::new(read));
                None
            }
            Err(error) => Some(chain(&error)),
        };
        let mut told = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != problem {
            match &problem {
                Some(problem) => tracing::warn!(%problem, "the users stay as they were"),
                None => tracing::info!("the file of users is good again"),
            }
            *told = problem;
        }
    }

    /// Who it is that has connected so, from there, and says this in the header `authorization`.
    pub(crate) async fn who(
        &self,
        caller: &Caller,
        from: Option<IpAddr>,
        said: Said<'_>,
    ) -> Result<Arc<Principal>, Stranger> {
        if !self.closed {
            return Ok(Principal::open());
        }
        match said {
            Said::Token(token) => self.bearer(token, from).await,
            Said::Malformed => Err(Stranger::Malformed),
            Said::Nothing => self.certified(caller),
        }
    }

    fn certified(&self, caller: &Caller) -> Result<Arc<Principal>, Stranger> {
        let identity = match caller {
            Caller::Known(identity) => identity,
            Caller::Unknown(why) => return Err(Stranger::Certificate(why.to_string())),
            Caller::Anonymous if self.settings.is_any() => {
                return Err(Stranger::Nothing("there is neither a token nor a certificate"));
            }
            Caller::Anonymous => return Err(Stranger::Nothing("there is no certificate")),
        };
        match &self.users {
            Some(users) if matches!(identity.role, Role::User { .. }) => listed(users, identity),
            _ => Ok(Arc::new(Principal::of_certificate(identity))),
        }
    }

    async fn bearer(&self, token: &str, from: Option<IpAddr>) -> Result<Arc<Principal>, Stranger> {
        // Where a listener does not say who is at the other end, all share one count.
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if token.len() > MAX_TOKEN {
            return Err(self.refused(from, "it is too long", Stranger::Token));
        }
        if let Some(users) = &self.users {
            match users.load().of_token(token, Timestamp::now()) {
                Known::Good(principal) => return Ok(principal),
                Known::Expired(name) => {
                    let why = format!("the token of {name} has expired");
                    return Err(self.refused(from, &why, Stranger::Expired));
                }
                Known::Unknown => {}
            }
        }
        let Some(oidc) = self.oidc.as_ref().filter(|_| token.contains('.')) else {
            return Err(self.refused(from, "no such token is known", Stranger::Token));
        };
        match oidc.who(token).await {
            Ok(principal) => Ok(principal),
            Err(error) if error.is_unavailable() => {
                tracing::warn!(error = chain(&error), "tokens cannot be checked");
                Err(Stranger::Unavailable)
            }
            Err(error) => {
                let told = if error.is_expired() { Stranger::Expired } else { Stranger::Token };
                Err(self.refused(from, &chain(&error), told))
            }
        }
    }

    /// Counts and logs a failed attempt.
    fn refused(&self, from: IpAddr, why: &str, told: Stranger) -> Stranger {
        match self.attempts.failed(from, Instant::now()) {
            Counted::Failed => tracing::warn!(%from, why, "a token was refused"),
            Counted::Locked => {
                tracing::warn!(%from, why, "a token was refused; further ones from there are not told of for a while");
            }
            Counted::Still => return Stranger::TooMany,
        }
        told
    }
}

fn listed(users: &ArcSwap<Users>, identity: &Identity) -> Result<Arc<Principal>, Stranger> {
    match users.load().of_certificate(identity, Timestamp::now()) {
        Known::Good(principal) => Ok(principal),
        Known::Expired(_) | Known::Unknown => Err(Stranger::Unlisted(identity.to_string())),
    }
}

/// What a header `authorization` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// There is none.
    Nothing,
    /// A bearer token.
    Token(&'a str),
    /// Something else.
    Malformed,
}

impl<'a> Said<'a> {
    /// Reads the headers of a request (RFC 6750, section 2.1).
    pub(crate) fn of(headers: &'a http::HeaderMap) -> Self {
        let mut all = headers.get_all(http::header::AUTHORIZATION).iter();
        let value = match (all.next(), all.next()) {
            (None, _) => return Self::Nothing,
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Self::Malformed,
        };
        let parts = value.to_str().ok().and_then(|text| text.split_once(' '));
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        match parts {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case("bearer")
                    && !token.is_empty()
                    && token.chars().all(is_token) =>
            {
                Self::Token(token)
            }
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
