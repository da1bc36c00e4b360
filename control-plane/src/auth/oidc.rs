//! Tokens of an identity provider (OpenID Connect): its keys are discovered and kept for a while, and what its tokens claim becomes a role in projects.
//!
//! Keys are fetched when a token names one that is not known, and after ten minutes, so that a key that was withdrawn is not believed for long; fetches are
//! one at a time and seldom, whatever tokens come. While the provider is down its last keys count for an hour.

mod claims;
mod fetch;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_engine::jwt::{
    alg::Alg,
    trusted::{DistrustError, KeySetError, TrustedKeys},
};
use countersign_tls::CertificateError;
use http::Uri;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use self::{
    claims::ClaimError,
    fetch::{FetchError, Fetcher},
};
use super::rights::Principal;

/// The algorithms that providers sign with. None is symmetric: who verifies could sign.
const ALLOWED: [Alg; 10] = [
    Alg::Rs256,
    Alg::Rs384,
    Alg::Rs512,
    Alg::Ps256,
    Alg::Ps384,
    Alg::Ps512,
    Alg::Es256,
    Alg::Es384,
    Alg::Es512,
    Alg::EdDsa,
];
/// Keys are asked for again after this time,
const FRESH: Duration = Duration::from_secs(600);
/// and believed for so long if the provider does not answer.
const LAST: Duration = Duration::from_secs(3600);
/// The provider is asked so seldom, whatever keys tokens name.
const PAUSE: Duration = Duration::from_secs(10);
/// Where a provider describes itself (OpenID Connect Discovery, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Which provider, and what its claims mean.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The provider's URL, which is the `iss` of its tokens.
    pub issuer: String,
    /// What has to be among the `aud` of its tokens.
    pub audience: String,
    /// The claim with the role, or roles, of which the highest counts. Dots lead into objects.
    pub role_claim: String,
    /// The claim with the ids of projects, or `*`.
    pub project_claim: String,
    /// The authorities that the provider is checked with, PEM; the system's if not given.
    pub authorities: Option<PathBuf>,
}

/// Why a provider cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// Not an address to trust.
    #[error(
        "`{0}` is no issuer: it has to be an https:// URL without a query; http:// is for loopback only"
    )]
    Issuer(String),
    /// Its authorities cannot be used.
    #[error("the identity provider cannot be checked")]
    Certificates(#[from] CertificateError),
    /// TLS cannot be set up.
    #[error("TLS to the identity provider cannot be set up: {0}")]
    Tls(String),
}

/// Why a token is nobody's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the identity provider cannot be asked")]
    Fetch(#[source] FetchError),
    #[error("the identity provider calls itself `{0}`")]
    OtherIssuer(String),
    #[error("the identity provider's description names no keys that may be fetched")]
    NoKeys,
    #[error("the identity provider's keys are of no use")]
    Keys(#[source] KeySetError),
    #[error("the token is not believed")]
    Distrust(#[from] DistrustError),
    #[error("the token is refused")]
    Claims(#[from] ClaimError),
}

impl TokenError {
    /// Whether it is not the token's fault.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::OtherIssuer(_) | Self::NoKeys | Self::Keys(_))
    }

    /// Whether the token has been good.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Claims(ClaimError::Expired))
    }
}

/// An identity provider.
#[derive(Debug)]
pub(crate) struct Oidc {
    settings: Settings,
    fetcher: Fetcher,
    kept: Mutex<Kept>,
}

/// Keys as they were fetched last.
#[derive(Debug, Default)]
struct Kept {
    keys: Option<(Instant, Arc<TrustedKeys>)>,
    asked: Option<Instant>,
}

impl Oidc {
    pub(crate) fn new(settings: Settings) -> Result<Self, OidcError> {
        let wrong = || OidcError::Issuer(settings.issuer.chars().take(200).collect());
        let url: Uri = settings.issuer.parse().map_err(|_| wrong())?;
        if !fetch::may_be_asked(&url) || url.query().is_some() {
            return Err(wrong());
        }
        let fetcher = Fetcher::new(settings.authorities.as_deref())?;
        Ok(Self { settings, fetcher, kept: Mutex::default() })
    }

    /// Whose token it is.
    pub(crate) async fn who(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        let keys = self.keys(false).await?;
        let claims = match keys.claims(token, &ALLOWED) {
            Err(DistrustError::UnknownKey) => {
                // It may be newer than what is known.
                self.keys(true).await?.claims(token, &ALLOWED)?
            }
            other => other?,
        };
        self.principal(&claims, Timestamp::now())
    }

    fn principal(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Arc<Principal>, TokenError> {
        Ok(Arc::new(claims::principal(&self.settings, claims, now)?))
    }

    /// The provider's keys; `anew` asks for newer ones, if that is not too often.
    async fn keys(&self, anew: bool) -> Result<Arc<TrustedKeys>, TokenError> {
        // Whoever comes meanwhile waits for the same answer.
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        let age = |since: Instant| now.saturating_duration_since(since);
        let rested = kept.asked.is_none_or(|asked| age(asked) >= PAUSE);
        if let Some((since, keys)) = &kept.keys {
            let is_fresh = age(*since) < FRESH && !anew;
            if is_fresh || (!rested && age(*since) < LAST) {
                return Ok(Arc::clone(keys));
            }
        } else if !rested {
            return Err(TokenError::Fetch(FetchError::Resting));
        }
        kept.asked = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                kept.keys = Some((now, Arc::clone(&keys)));
                Ok(keys)
            }
            Err(error) => match &kept.keys {
                Some((since, keys)) if age(*since) < LAST => {
                    tracing::warn!(
                        error = crate::service::chain(&error),
                        "the identity provider's last keys are kept"
                    );
                    Ok(Arc::clone(keys))
                }
                _ => Err(error),
            },
        }
    }

    async fn fetch(&self) -> Result<TrustedKeys, TokenError> {
        let issuer = &*self.settings.issuer;
        let url = format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer));
        let described = self.fetcher.get(&url).await.map_err(TokenError::Fetch)?;
        let described: Value =
            serde_json::from_slice(&described).map_err(|_| TokenError::NoKeys)?;
        let text = |name: &str| described.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("issuer") != issuer {
            return Err(TokenError::OtherIssuer(text("issuer").chars().take(200).collect()));
        }
        let keys = text("jwks_uri");
        let may = keys.parse().is_ok_and(|url: Uri| fetch::may_be_asked(&url));
        if !may {
            return Err(TokenError::NoKeys);
        }
        let set = self.fetcher.get(keys).await.map_err(TokenError::Fetch)?;
        TrustedKeys::parse(&set).map_err(TokenError::Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(issuer: &str) -> Settings {
        Settings {
            issuer: issuer.into(),
            audience: "countersign".into(),
            role_claim: "role".into(),
            project_claim: "projects".into(),
            authorities: None,
        }
    }

    #[test]
    fn a_provider_is_asked_over_tls_only() {
        for good in ["https://id.example", "https://id.example/realms/a", "http://127.0.0.1:8080"] {
            assert!(Oidc::new(settings(good)).is_ok(), "{good}");
        }
        for bad in ["", "id.example", "http://id.example", "https://id.example?x", "ftp://a", "/"] {
            let refused = Oidc::new(settings(bad));
            assert!(matches!(refused, Err(OidcError::Issuer(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_provider_that_is_away_is_not_asked_for_each_token() {
        // Bound and dropped at once, so that nobody listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let oidc = Oidc::new(settings(&format!("http://{free}"))).unwrap();
        let first = oidc.who("a.b.c").await.unwrap_err();
        assert!(first.is_unavailable() && !matches!(first, TokenError::Fetch(FetchError::Resting)));
        let second = oidc.who("a.b.c").await.unwrap_err();
        assert!(matches!(second, TokenError::Fetch(FetchError::Resting)), "{second:?}");
    }
}
