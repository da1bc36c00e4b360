//! How the data plane may be reached besides plain HTTP on its port: TLS, further ports for single hosts, and as a forward proxy.
//!
//! The flags are the same for every binary that runs a responder; they become one value that says nothing impossible.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};

use crate::certificates::name::Name;

/// How the data plane may be reached.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Answers TLS, too.
    pub tls: Option<Tls>,
    /// A further address, for TLS only.
    pub tls_listen: Option<SocketAddr>,
    /// Further ports whose requests are all for one host.
    pub maps: Vec<PortMap>,
    /// Answers `CONNECT` with a tunnel that ends here.
    pub forward_proxy: bool,
}

/// What TLS is answered with.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Whose certificate is shown.
    pub identity: Identity,
    /// The certificates that clients' certificates are checked with.
    pub client_ca: Option<PathBuf>,
    /// Whether clients have to show one.
    pub client_auth: ClientAuth,
}

/// Where the certificates that are shown come from.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A certificate for each name, signed by the authority in this directory (`tls.crt`, `tls.key`) or PEM file.
    Authority(PathBuf),
    /// One certificate for all names.
    Certificate {
        /// The certificate and those that signed it, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
}

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and may have none; one that is shown has to be good.
    Optional,
    /// They have to show a good one.
    Required,
}

/// A port whose requests are all for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMap {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The host, with a port if one was given.
    pub host: String,
}

impl Default for Transport {
    fn default() -> Self {
        Self { tls: None, tls_listen: None, maps: Vec::new(), forward_proxy: true }
    }
}

impl FromStr for PortMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "a map looks like 8443=api.example.com or 8443=api.example.com:443";
        let (port, host) = text.split_once('=').ok_or(SHAPE)?;
        let port = port.parse().map_err(|_| SHAPE)?;
        let authority: http::uri::Authority = host.parse().map_err(|_| SHAPE)?;
        let port_is_good = authority.as_str() == authority.host() || authority.port_u16().is_some();
        if !port_is_good || host.contains('@') || Name::of_host(authority.host()).is_none() {
            return Err(format!("{host:?} is no host; {SHAPE}"));
        }
        Ok(Self { port, host: host.to_ascii_lowercase() })
    }
}

/// The flags of a responder's transport.
#[derive(Debug, Clone, Args)]
pub struct TransportFlags {
    /// Answers TLS on the data port, with a certificate for each name that clients ask for, signed by this CA: a directory with tls.crt and
    /// tls.key, as in a Kubernetes secret, or a PEM file with both. `countersign certs` makes one.
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_CA",
        value_name = "PATH",
        group = "tls_identity",
        help_heading = "Transport"
    )]
    pub tls_ca: Option<PathBuf>,
    /// Answers TLS on the data port with this certificate, whatever name clients ask for: PEM, followed by those that signed it.
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_CERT",
        value_name = "FILE",
        group = "tls_identity",
        requires = "tls_key",
        conflicts_with = "tls_ca",
        help_heading = "Transport"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, PEM.
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Transport"
    )]
    pub tls_key: Option<PathBuf>,
    /// The certificates, PEM, that sign clients' certificates (mutual TLS).
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_identity",
        help_heading = "Transport"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients have to show a certificate; required if --tls-client-ca is given.
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_CLIENT_AUTH",
        value_name = "WHETHER",
        value_enum,
        requires = "tls_client_ca",
        help_heading = "Transport"
    )]
    pub tls_client_auth: Option<ClientAuth>,
    /// A further address where recorded traffic is served, with TLS only. The data port itself takes TLS and plain connections.
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_LISTEN",
        value_name = "ADDR",
        requires = "tls_identity",
        help_heading = "Transport"
    )]
    pub tls_listen: Option<SocketAddr>,
    /// A further port, on the address of the data port, whose requests are taken as for this host, whatever host they name; can be given
    /// several times.
    #[arg(
        long = "map",
        env = "COUNTERSIGN_MAP",
        value_name = "PORT=HOST[:PORT]",
        value_delimiter = ',',
        help_heading = "Transport"
    )]
    pub maps: Vec<PortMap>,
    /// Whether clients may use the data port as their forward proxy for TLS (CONNECT). The tunnel ends here: what comes through it is answered
    /// from the recording, and nothing is ever connected to.
    #[arg(
        long,
        env = "COUNTERSIGN_FORWARD_PROXY",
        value_name = "WHETHER",
        value_enum,
        default_value_t = Switch::On,
        help_heading = "Transport"
    )]
    pub forward_proxy: Switch,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is done.
    On,
    /// It is not done.
    Off,
}

impl From<TransportFlags> for Transport {
    fn from(flags: TransportFlags) -> Self {
        let identity = match (flags.tls_ca, flags.tls_cert, flags.tls_key) {
            (Some(path), ..) => Some(Identity::Authority(path)),
            (None, Some(certificate), Some(key)) => {
                Some(Identity::Certificate { certificate, key })
            }
            // The parser refuses one without the other.
            (None, ..) => None,
        };
        let client_auth = flags.tls_client_auth.unwrap_or(match flags.tls_client_ca {
            Some(_) => ClientAuth::Required,
            None => ClientAuth::None,
        });
        Self {
            tls: identity.map(|identity| Tls {
                identity,
                client_ca: flags.tls_client_ca,
                client_auth,
            }),
            tls_listen: flags.tls_listen,
            maps: flags.maps,
            forward_proxy: flags.forward_proxy == Switch::On,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: TransportFlags,
    }

    fn parse(words: &[&str]) -> Result<Transport, clap::Error> {
        Line::try_parse_from([&["responder"], words].concat()).map(|line| line.flags.into())
    }

    #[test]
    fn flags_become_a_transport() {
        let plain = parse(&[]).unwrap();
        assert!(plain.tls.is_none() && plain.forward_proxy && plain.maps.is_empty());
        let words = ["--tls-ca", "ca", "--tls-client-ca", "c.pem", "--map", "1=a,2=b:443"];
        let full = parse(&[&words[..], &["--map", "3=c", "--forward-proxy", "off"]].concat());
        let full = full.unwrap();
        let tls = full.tls.unwrap();
        assert!(matches!(tls.identity, Identity::Authority(_)));
        assert_eq!(tls.client_auth, ClientAuth::Required);
        let hosts: Vec<_> = full.maps.iter().map(|map| (map.port, map.host.as_str())).collect();
        assert_eq!(hosts, [(1, "a"), (2, "b:443"), (3, "c")]);
        assert!(!full.forward_proxy);
        let given = parse(&["--tls-cert", "c", "--tls-key", "k"]).unwrap().tls.unwrap();
        assert!(matches!(given.identity, Identity::Certificate { .. }));
        assert_eq!(given.client_auth, ClientAuth::None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["--tls-cert", "c"][..],
            &["--tls-key", "k"],
            &["--tls-ca", "a", "--tls-cert", "c", "--tls-key", "k"],
            &["--tls-client-ca", "c"],
            &["--tls-ca", "a", "--tls-client-auth", "required"],
            &["--tls-listen", "127.0.0.1:0"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_map_names_a_port_and_a_host() {
        let map = |text: &str| text.parse::<PortMap>();
        assert_eq!(map("80=Api.Example"), Ok(PortMap { port: 80, host: "api.example".into() }));
        assert_eq!(map("0=[::1]:9"), Ok(PortMap { port: 0, host: "[::1]:9".into() }));
        for wrong in ["", "80", "80=", "x=a", "70000=a", "1=a/b", "1=u@a", "1=*.a", "1=a:x", "1=a:"]
        {
            assert!(map(wrong).is_err(), "{wrong}");
        }
    }
}
