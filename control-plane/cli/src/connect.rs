//! The connection to a control plane, and the names of what it holds.

use std::{fmt, path::PathBuf, time::Duration};

use clap::Args;
use countersign_proto::{
    control::v1::{
        inspect_service_client::InspectServiceClient, replay_service_client::ReplayServiceClient,
        report_service_client::ReportServiceClient, snapshot_service_client::SnapshotServiceClient,
        test_config_service_client::TestConfigServiceClient,
        transform_service_client::TransformServiceClient,
    },
    discovery::v1::chunk_service_client::ChunkServiceClient,
};
use countersign_tls::{
    bearer::{Bearer, BearerError},
    client::{ClientTls, Settings},
    identity::Identity,
};
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::failure::{Failure, chain};

/// Pages of recorded pairs may be large.
const MESSAGE_LIMIT: usize = 64 * 1024 * 1024;

/// The flags of TLS to the control plane.
#[derive(Debug, Default, Args)]
pub(crate) struct TlsFlags {
    /// The certificates, PEM, that an https:// control plane is checked with; the system's if not given
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_SERVER_CA",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    server_ca: Option<PathBuf>,

    /// The certificate, PEM, that is shown to the control plane: who you are. `countersign certs` makes one
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_CLIENT_CERT",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    client_cert: Option<PathBuf>,

    /// The private key of --client-cert, PEM
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_CLIENT_KEY",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    client_key: Option<PathBuf>,

    /// The identity that the control plane has to have, whatever host name is in its certificate
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_SERVER_ID",
        value_name = "SPIFFE-ID",
        help_heading = "Global options"
    )]
    server_id: Option<Identity>,
}

impl TlsFlags {
    /// Whom to trust and what to show.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        if self.client_cert.is_some() != self.client_key.is_some() {
            return Err(Failure::refused("--client-cert and --client-key go together"));
        }
        Ok(Settings {
            authorities: self.server_ca.clone(),
            certificate: self.client_cert.clone().zip(self.client_key.clone()),
            server: self.server_id.clone(),
        })
    }
}

/// The flags of the token that is shown to the control plane.
#[derive(Debug, Default, Args)]
pub(crate) struct TokenFlags {
    /// The token that says who you are, which `countersign token create` or an identity provider has given out; better in the variable, since others see
    /// what stands on a command line
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    token: Option<Hidden>,
}

impl TokenFlags {
    /// What is shown with each call.
    pub(crate) fn bearer(&self) -> Result<Bearer, Failure> {
        self.token.as_ref().map(Hidden::bearer).transpose().map(Option::unwrap_or_default)
    }
}

/// A token as it was given, which nothing shows.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Hidden {
    /// What is shown with each call.
    pub(crate) fn bearer(&self) -> Result<Bearer, Failure> {
        Bearer::new(&self.0).map_err(|error| refused(&error))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

fn refused(error: &BearerError) -> Failure {
    Failure::refused(chain(error))
}

/// A connection, and what is shown with each call.
pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// A control plane that can be reached, and the project that a command is about.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    project: String,
    tls: Box<Settings>,
    bearer: Bearer,
}

/// What a project holds, as it stands in resource names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collection {
    /// Snapshots.
    Snapshots,
    /// Transforms.
    Transforms,
    /// Test configs.
    TestConfigs,
    /// Replays.
    Replays,
}

impl Client {
    /// Connects. Once connected, the channel connects again by itself.
    pub(crate) async fn connect(
        server: &str,
        project: &str,
        tls: &Settings,
        bearer: Bearer,
    ) -> Result<Self, Failure> {
        let scheme = if tls.is_any() { "https" } else { "http" };
        let url =
            if server.contains("://") { server.to_owned() } else { format!("{scheme}://{server}") };
        let secured = match url.split_once("://") {
            Some(("https", _)) => Some(ClientTls::read(tls.clone())),
            _ if tls.is_any() => {
                return Err(Failure::refused(format!(
                    "{url} is reached without TLS, so that certificates are of no use; write https://"
                )));
            }
            _ => None,
        };
        let secured = secured.transpose().map_err(|error| Failure::refused(chain(&error)))?;
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|source| {
            Failure::refused(format!("`{server}` is no address of a control plane: {source}"))
        })?;
        let bearer = bearer.towards(endpoint.uri()).map_err(|error| refused(&error))?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .tcp_nodelay(true);
        let connected = match secured {
            Some(secured) => endpoint.connect_with_connector(secured.connector()).await,
            None => endpoint.connect().await,
        };
        let channel = connected
            .map_err(|source| Failure::Unreachable { server: url, why: chain(&source) })?;
        let project = project.strip_prefix("projects/").unwrap_or(project).to_owned();
        Ok(Self { channel, project, tls: Box::new(tls.clone()), bearer })
    }

    /// Whom it trusts and what it shows, to connect to another control plane alike.
    pub(crate) fn tls(&self) -> &Settings {
        &self.tls
    }

    /// What calls are made with.
    fn wire(&self) -> Wire {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// `projects/{project}`.
    pub(crate) fn parent(&self) -> String {
        format!("projects/{}", self.project)
    }

    /// The full name of what the user called by its id or by its full name.
    pub(crate) fn name(&self, collection: Collection, id: &str) -> String {
        name(&self.project, collection, id)
    }

    /// The snapshots.
    pub(crate) fn snapshots(&self) -> SnapshotServiceClient<Wire> {
        SnapshotServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The blobs.
    pub(crate) fn chunks(&self) -> ChunkServiceClient<Wire> {
        ChunkServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The transforms.
    pub(crate) fn transforms(&self) -> TransformServiceClient<Wire> {
        TransformServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// What looks inside.
    pub(crate) fn inspect(&self) -> InspectServiceClient<Wire> {
        InspectServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The test configs.
    pub(crate) fn test_configs(&self) -> TestConfigServiceClient<Wire> {
        TestConfigServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The reports of replays.
    pub(crate) fn reports(&self) -> ReportServiceClient<Channel> {
        ReportServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The replays and responders.
    pub(crate) fn replays(&self) -> ReplayServiceClient<Wire> {
        ReplayServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_LIMIT)
    }
}

/// The last part of a resource name.
pub(crate) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The name of the resource that stands in the way of a creation.
pub(crate) fn taken(status: &Status) -> Option<String> {
    if status.code() != Code::AlreadyExists {
        return None;
    }
    let name = status.get_details_resource_info()?.resource_name;
    (!name.is_empty()).then_some(name)
}

fn name(project: &str, collection: Collection, id: &str) -> String {
    if id.contains('/') {
        return id.to_owned();
    }
    let collection = match collection {
        Collection::Snapshots => "snapshots",
        Collection::Transforms => "transforms",
        Collection::TestConfigs => "testConfigs",
        Collection::Replays => "replays",
    };
    format!("projects/{project}/{collection}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_names_and_names_stay() {
        assert_eq!(name("shop", Collection::TestConfigs, "fast"), "projects/shop/testConfigs/fast");
        let full = "projects/other/snapshots/x";
        assert_eq!(name("shop", Collection::Snapshots, full), full);
        assert_eq!(id(full), "x");
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_unreachable() {
        // Bound and dropped at once, so that the port is free.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let none = Settings::default();
        let failure = Client::connect(&free.to_string(), "default", &none, Bearer::default())
            .await
            .unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(failure.render().contains("hint: start one"), "{}", failure.render());
        let some = Settings { authorities: Some("nowhere.pem".into()), ..none };
        for server in [format!("https://{free}"), format!("http://{free}"), free.to_string()] {
            let failure =
                Client::connect(&server, "default", &some, Bearer::default()).await.unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{}", failure.render());
        }
    }
}
