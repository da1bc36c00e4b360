//! Tokens of an identity provider (OpenID Connect): its keys are discovered and kept for a while, and what its tokens claim becomes a role in projects.
//!
//! Keys are fetched when a token names one that is not known, and after ten minutes, so that a key that was withdrawn is not believed for long; fetches are
//! one at a time and seldom, whatever tokens come, and go on beside the calls: whoever shows a token of a known key waits for none that is slow. While the
//! provider is down its last keys count for an hour.

mod claims;
mod fetch;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use countersign_engine::jwt::{
    alg::Alg,
    trusted::{DistrustError, KeySetError, TrustedKeys},
};
use countersign_tls::CertificateError;
use http::Uri;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::{sync::watch, time::timeout};

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
/// Newer keys are waited for so long where there are some that may still do.
const BRIEF: Duration = Duration::from_millis(500);
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
    #[error("the identity provider's keys could not be had")]
    NotFetched,
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
        !matches!(self, Self::Distrust(_) | Self::Claims(_))
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
    kept: ArcSwapOption<Kept>,
    asking: Mutex<Asking>,
    /// Counts the fetches that have ended.
    ended: watch::Sender<u64>,
}

/// Keys as they were fetched last.
#[derive(Debug)]
struct Kept {
    since: Instant,
    keys: Arc<TrustedKeys>,
}

/// How the provider is asked.
#[derive(Debug, Default)]
struct Asking {
    last: Option<Instant>,
    goes_on: bool,
    /// The last answer was none.
    failed: bool,
}

impl Oidc {
    pub(crate) fn new(settings: Settings) -> Result<Arc<Self>, OidcError> {
        let wrong = || OidcError::Issuer(settings.issuer.chars().take(200).collect());
        let url: Uri = settings.issuer.parse().map_err(|_| wrong())?;
        if !fetch::may_be_asked(&url) || url.query().is_some() {
            return Err(wrong());
        }
        let fetcher = Fetcher::new(settings.authorities.as_deref())?;
        Ok(Arc::new(Self {
            settings,
            fetcher,
            kept: ArcSwapOption::empty(),
            asking: Mutex::default(),
            ended: watch::Sender::new(0),
        }))
    }

    /// Whose token it is.
    pub(crate) async fn who(self: &Arc<Self>, token: &str) -> Result<Arc<Principal>, TokenError> {
        let keys = self.keys(false, Instant::now()).await?;
        let claims = match keys.claims(token, &ALLOWED) {
            Err(DistrustError::UnknownKey) => {
                // It may be newer than what is known.
                self.keys(true, Instant::now()).await?.claims(token, &ALLOWED)?
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
    async fn keys(
        self: &Arc<Self>,
        anew: bool,
        now: Instant,
    ) -> Result<Arc<TrustedKeys>, TokenError> {
        let age = |kept: &Kept| now.saturating_duration_since(kept.since);
        let kept = self.kept.load_full().filter(|kept| age(kept) < LAST);
        if let Some(kept) = kept.as_ref().filter(|kept| age(kept) < FRESH && !anew) {
            return Ok(Arc::clone(&kept.keys));
        }
        let Some((mut ended, failed)) = self.ask(now) else {
            let rests = || TokenError::Fetch(FetchError::Resting);
            return kept.map(|kept| Arc::clone(&kept.keys)).ok_or_else(rests);
        };
        // Newer keys are needed where there are none, or not the one that is named. Otherwise they are waited for a moment, unless they just did not come.
        let patience = match &kept {
            Some(_) if !anew && failed => Duration::ZERO,
            Some(_) if !anew => BRIEF,
            _ => Duration::MAX,
        };
        if !patience.is_zero() {
            // The sender is this one's own.
            drop(timeout(patience, ended.changed()).await);
        }
        let kept = self.kept.load_full().filter(|kept| age(kept) < LAST);
        kept.map(|kept| Arc::clone(&kept.keys)).ok_or(TokenError::NotFetched)
    }

    /// Has the keys fetched, unless they were a moment ago. Tells when that has ended, and whether the time before it failed.
    fn ask(self: &Arc<Self>, now: Instant) -> Option<(watch::Receiver<u64>, bool)> {
        let mut asking = self.asking();
        let (ended, failed) = (self.ended.subscribe(), asking.failed);
        if asking.goes_on {
            return Some((ended, failed));
        }
        let rested = |last| now.saturating_duration_since(last) >= PAUSE;
        if !asking.last.is_none_or(rested) {
            return None;
        }
        (asking.last, asking.goes_on, asking.failed) = (Some(now), true, true);
        let fetching = Fetching(Arc::clone(self));
        tokio::spawn(async move { fetching.run(now).await });
        Some((ended, failed))
    }

    /// Has it know these keys, as if they had been fetched.
    #[cfg(test)]
    pub(super) fn keep(&self, keys: TrustedKeys, since: Instant) {
        self.kept.store(Some(Arc::new(Kept { since, keys: Arc::new(keys) })));
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A fetch that goes on, until it is dropped.
struct Fetching(Arc<Oidc>);

impl Fetching {
    async fn run(self, now: Instant) {
        match self.0.fetch().await {
            Ok(keys) => {
                let kept = Kept { since: now, keys: Arc::new(keys) };
                self.0.kept.store(Some(Arc::new(kept)));
                self.0.asking().failed = false;
            }
            Err(error) => tracing::warn!(
                error = crate::service::chain(&error),
                "the identity provider's keys cannot be had; the last ones are kept for a while"
            ),
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.asking().goes_on = false;
        self.0.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

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
        assert!(matches!(first, TokenError::NotFetched) && first.is_unavailable(), "{first:?}");
        let second = oidc.who("a.b.c").await.unwrap_err();
        assert!(matches!(second, TokenError::Fetch(FetchError::Resting)), "{second:?}");
    }

    /// A provider that takes connections and never answers, and its keys of that moment.
    fn silent() -> (std::net::TcpListener, Arc<Oidc>, Instant) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (oidc, now) = (Oidc::new(settings(&url)).unwrap(), Instant::now());
        oidc.keep(TrustedKeys::default(), now);
        (listener, oidc, now)
    }

    #[tokio::test]
    async fn whoever_shows_a_known_key_does_not_wait_for_a_provider_that_hangs() {
        let (_listener, oidc, now) = silent();
        let unknown = tokio::spawn({
            let oidc = Arc::clone(&oidc);
            async move { oidc.keys(true, now).await.is_ok() }
        });
        while !oidc.asking().goes_on {
            tokio::task::yield_now().await;
        }
        assert!(oidc.keys(false, now).now_or_never().is_some_and(|keys| keys.is_ok()));
        // Nor once its keys should be newer, after the first has waited a moment in vain.
        let later = now + FRESH;
        assert!(oidc.keys(false, later).now_or_never().is_some_and(|keys| keys.is_ok()));
        unknown.abort();
    }

    #[tokio::test]
    async fn keys_that_are_too_old_are_asked_for_seldom_too() {
        let (listener, oidc, now) = silent();
        drop(listener);
        let late = now + LAST;
        let first = oidc.keys(false, late).await.unwrap_err();
        assert!(matches!(first, TokenError::NotFetched), "{first:?}");
        let second = oidc.keys(false, late + Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(second, TokenError::Fetch(FetchError::Resting)), "{second:?}");
    }
}
