//! Where a PostgreSQL server is, and how it is reached. What is printed of it has no credentials.

use std::{env, fmt, path::PathBuf, str::FromStr as _, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Connection, Error, Socket,
    config::{Host, SslMode, TargetSessionAttrs},
    error::SqlState,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// No statement takes so long but on a server that is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A server, and the database on it.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
    name: Arc<str>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

impl Server {
    /// Parses `postgres://…`. The password may come from `PGPASSWORD`, and the certificates to trust from `sslrootcert` or `PGSSLROOTCERT`;
    /// without either the system's are trusted. A server that is asked for TLS is always verified in full.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (url, root) = simplify(url);
        let mut config = Config::from_str(&url)
            // The message names an option or a place, never a value.
            .map_err(|error| StoreError::Settings(format!("the URL of PostgreSQL is of no use: {error}")))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            let what = "the URL of PostgreSQL names no host: postgres://USER@HOST:PORT/DATABASE";
            return Err(StoreError::Settings(what.to_owned()));
        }
        if config.get_password().is_none()
            && let Ok(password) = env::var("PGPASSWORD")
        {
            config.password(password);
        }
        // Nothing is sent in the clear to a server that could have been asked for TLS; who wants TLS says so.
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Disable);
        }
        config
            .application_name("countersign-control-plane")
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .keepalives_idle(Duration::from_secs(30))
            .tcp_user_timeout(PATIENCE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        let roots = match config.get_ssl_mode() {
            SslMode::Disable => RootCertStore::empty(),
            _ => trusted(root.or_else(|| env::var_os("PGSSLROOTCERT").map(PathBuf::from)))?,
        };
        let tls = ClientConfig::builder_with_provider(
            rustls::crypto::aws_lc_rs::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            StoreError::Settings(format!("TLS to PostgreSQL cannot be set up: {error}"))
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
        let name = name(&config).into();
        Ok(Self { config, tls: MakeRustlsConnect::new(tls), name })
    }

    /// A connection, whose other half has to be polled.
    pub(super) async fn connect(&self) -> Result<(Client, Wire), StoreError> {
        self.bounded("connect", self.config.connect(self.tls.clone())).await
    }

    /// Runs what asks the server, for a bounded time.
    pub(super) async fn bounded<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        match timeout(PATIENCE, work).await {
            Ok(done) => done.map_err(|error| self.failed(doing, error)),
            Err(late) => Err(StoreError::Unavailable {
                server: self.to_string(),
                doing,
                source: late.into(),
            }),
        }
    }

    /// What an error means for the caller.
    pub(super) fn failed(&self, doing: &'static str, error: Error) -> StoreError {
        let server = self.to_string();
        let passing = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            // A server that was demoted; the next connection finds the new one.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        match error.code() {
            Some(&SqlState::DISK_FULL) => StoreError::Full { server, doing, source: error.into() },
            Some(code) if !passing.contains(code) && !code.code().starts_with("08") => {
                StoreError::Refused { server, doing, source: error.into() }
            }
            _ => StoreError::Unavailable { server, doing, source: error.into() },
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Takes out of the URL what libpq knows and tokio-postgres does not. `verify-ca` and `verify-full` ask for what is always done.
fn simplify(url: &str) -> (String, Option<PathBuf>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut root = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslrootcert", path)) => root = Some(PathBuf::from(path)),
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(pair),
        }
    }
    (format!("{base}?{}", kept.join("&")), root)
}

fn trusted(file: Option<PathBuf>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unusable = |why: String| {
        StoreError::Settings(format!(
            "the certificates to trust in {} cannot be used: {why}",
            path.display()
        ))
    };
    let all = CertificateDer::pem_file_iter(&path).map_err(|error| unusable(error.to_string()))?;
    for certificate in all {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is none".to_owned()));
    }
    Ok(roots)
}

fn name(config: &Config) -> String {
    let port = |index| {
        config
            .get_ports()
            .get(index)
            .or_else(|| config.get_ports().first())
            .copied()
            .unwrap_or(5432)
    };
    let host = |(index, host): (usize, &Host)| match host {
        Host::Tcp(host) => format!("{host}:{}", port(index)),
        Host::Unix(path) => format!("{}:{}", path.display(), port(index)),
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    let database = config.get_dbname().or_else(|| config.get_user()).unwrap_or_default();
    format!("PostgreSQL at {}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_server_has_no_password() {
        let server =
            Server::parse("postgres://me:p4ss@db.example:6432/store?sslmode=disable").unwrap();
        assert_eq!(server.to_string(), "PostgreSQL at db.example:6432/store");
        assert!(!format!("{server:?}").contains("p4ss"));
        for wrong in [
            "postgres://me:p4ss@db:notaport/x",
            "postgres://me:p4ss@db/x?no=such",
            "postgres://me:p4ss@db/x?sslmode=p4ss",
            "postgres:///p4ss",
            "postgres://me:p4ss@db/x?sslmode=require&sslrootcert=absent.pem",
        ] {
            let error = Server::parse(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("p4ss"), "{error:?}");
        }
    }

    #[test]
    fn modes_of_tls_that_only_libpq_knows_ask_for_verified_tls() {
        let mode = |url: &str| Server::parse(url).unwrap().config.get_ssl_mode();
        assert_eq!(mode("postgres://me@db/x?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgres://me@db/x?sslmode=require"), SslMode::Require);
        assert_eq!(mode("postgres://me@db/x"), SslMode::Disable);
    }
}
