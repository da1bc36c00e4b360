//! Whom a request may be sent to: an allow list of names and addresses, checked before and after a name is resolved.
//!
//! Names say which hosts are asked for. Addresses that are not public (loopback, private, link-local, cloud metadata and the like) are
//! reached only when a rule names the address, or a network that lies within that special range. Some addresses are never reached.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

/// A rule of an allow list: `HOST`, `HOST:PORT`, `*.SUFFIX`, an address or a network, each with `http://` or `https://` before it if need be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    tls: Option<bool>,
    target: Target,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Name(String),
    /// A suffix with its dot.
    Suffix(String),
    Network(Network),
}

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    bits: u8,
}

/// Why a rule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rule: write api.example.com, api.example.com:8443, *.example.com, 10.1.2.3 or 10.1.0.0/16, with http:// or https:// before it if need be"
)]
pub struct RuleError(String);

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No rule names the host.
    #[error("{0} is not on the allow list of this responder (--passthrough-allow)")]
    Host(String),
    /// The address is not public, and no rule names it.
    #[error(
        "{0} leads to the {2} address {1}, which no rule of --passthrough-allow names by address or network"
    )]
    Address(String, IpAddr, &'static str),
    /// The address can never be asked.
    #[error("{0} leads to {1}, which is no address of a host")]
    Never(String, IpAddr),
    /// It would come back here.
    #[error("{0} leads to {1}, where this process listens itself")]
    Own(String, SocketAddr),
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An allow list and the addresses that this process listens on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    /// Every name and every address but those that are never reached, link-local ones and cloud metadata.
    anywhere: bool,
    own: Vec<SocketAddr>,
}

/// Ranges that are not public, the narrower ones first, and whether they are never reached.
const SPECIAL: [(&str, &str, bool); 39] = [
    ("169.254.169.254/32", "cloud metadata", false),
    ("169.254.170.2/32", "cloud metadata", false),
    ("169.254.170.23/32", "cloud metadata", false),
    ("100.100.100.200/32", "cloud metadata", false),
    ("168.63.129.16/32", "cloud metadata", false),
    ("192.0.0.192/32", "cloud metadata", false),
    ("0.0.0.0/8", "unspecified", true),
    ("10.0.0.0/8", "private", false),
    ("100.64.0.0/10", "shared", false),
    ("127.0.0.0/8", "loopback", false),
    ("169.254.0.0/16", "link-local", false),
    ("172.16.0.0/12", "private", false),
    ("192.0.0.0/24", "reserved", false),
    ("192.0.2.0/24", "documentation", false),
    ("192.88.99.0/24", "reserved", false),
    ("192.168.0.0/16", "private", false),
    ("198.18.0.0/15", "benchmark", false),
    ("198.51.100.0/24", "documentation", false),
    ("203.0.113.0/24", "documentation", false),
    ("224.0.0.0/4", "multicast", true),
    ("240.0.0.0/4", "reserved", true),
    ("fd00:ec2::254/128", "cloud metadata", false),
    ("fd00:ec2::23/128", "cloud metadata", false),
    ("fd20:ce::254/128", "cloud metadata", false),
    ("::/128", "unspecified", true),
    ("::1/128", "loopback", false),
    ("::/96", "reserved", true),
    ("64:ff9b:1::/48", "translated", false),
    ("100::/64", "discarded", true),
    ("2001:db8::/32", "documentation", false),
    ("2001::/23", "reserved", false),
    ("3fff::/20", "documentation", false),
    ("5f00::/16", "reserved", false),
    ("fc00::/7", "private", false),
    ("fe80::/10", "link-local", false),
    ("fec0::/10", "site-local", false),
    ("ff00::/8", "multicast", true),
    ("::ffff:0:0/96", "mapped", true),
    ("::ffff:0:0:0/96", "translated", true),
];

impl Policy {
    /// Only what these rules name.
    pub(crate) fn of(rules: Vec<Rule>, own: Vec<SocketAddr>) -> Self {
        Self { rules, anywhere: false, own }
    }

    /// Every host, for a proxy that its user has started: what the rules name, and of the rest all but link-local and metadata addresses.
    pub(crate) fn anywhere(rules: Vec<Rule>, own: Vec<SocketAddr>) -> Self {
        Self { rules, anywhere: true, own }
    }

    /// Where a request for this authority goes. `scheme` is the one that the request names, if it names one.
    pub(crate) fn destination(
        &self,
        authority: &str,
        scheme: Option<&str>,
    ) -> Result<Destination, Refused> {
        let (host, port) = split(authority);
        let refused = || Refused::Host(authority.chars().take(253).collect());
        if host.is_empty() {
            return Err(refused());
        }
        let rule = self.rules.iter().find(|rule| rule.names(&host, port));
        if rule.is_none() && !self.anywhere {
            return Err(refused());
        }
        let fixed = rule.and_then(|rule| rule.tls);
        let port = port.or_else(|| rule.and_then(|rule| rule.port));
        let tls = fixed.unwrap_or_else(|| match scheme {
            Some(scheme) => scheme == "https",
            None => port == Some(443),
        });
        Ok(Destination { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// Whether a connection to this address may be made for a host that is allowed.
    pub(crate) fn check(&self, host: &str, addr: SocketAddr) -> Result<(), Refused> {
        let ip = plain(addr.ip());
        if self.own.iter().any(|own| is_own(own, SocketAddr::new(ip, addr.port()))) {
            return Err(Refused::Own(host.to_owned(), addr));
        }
        let Some((range, kind, never)) = special(ip) else { return Ok(()) };
        if never {
            return Err(Refused::Never(host.to_owned(), ip));
        }
        let by_rule = self.rules.iter().any(|rule| match &rule.target {
            Target::Network(network) => {
                network.contains(ip)
                    && network.bits >= range.bits
                    && rule.port.is_none_or(|port| port == addr.port())
            }
            Target::Name(_) | Target::Suffix(_) => false,
        });
        let harmless = self.anywhere && !matches!(kind, "link-local" | "cloud metadata");
        if by_rule || harmless { Ok(()) } else { Err(Refused::Address(host.to_owned(), ip, kind)) }
    }
}

impl Rule {
    fn names(&self, host: &str, port: Option<u16>) -> bool {
        let named = match &self.target {
            Target::Name(name) => name == host,
            Target::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Target::Network(network) => {
                host.parse().is_ok_and(|ip: IpAddr| network.contains(plain(ip)))
            }
        };
        // A request that names no port means the usual one, which a rule with a port replaces.
        named && (port.is_none() || self.port.is_none() || port == self.port)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let error = || RuleError(text.chars().take(100).collect());
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(true), rest),
            Some(("http", rest)) => (Some(false), rest),
            Some(_) => return Err(error()),
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Ok(network) = rest.parse() {
            return Ok(Self { tls, target: Target::Network(network), port: None });
        }
        let (host, port) = split(rest);
        if rest.rsplit_once(':').is_some_and(|(_, last)| !last.ends_with(']')) && port.is_none() {
            return Err(error());
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self { tls, target: Target::Network(Network::single(plain(ip))), port });
        }
        let target = match host.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => Target::Suffix(suffix.to_owned()),
            Some(_) => return Err(error()),
            None => Target::Name(host),
        };
        let bare = match &target {
            Target::Suffix(suffix) => suffix.trim_start_matches('.'),
            Target::Name(name) => name.as_str(),
            Target::Network(_) => "",
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bare.is_empty() || !bare.chars().all(is_name) {
            return Err(error());
        }
        Ok(Self { tls, target, port })
    }
}

impl Network {
    fn single(ip: IpAddr) -> Self {
        Self { base: ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let same = |own: u128, other: u128, width: u32| {
            let drop = width.saturating_sub(u32::from(self.bits));
            own.checked_shr(drop).unwrap_or(0) == other.checked_shr(drop).unwrap_or(0)
        };
        match (self.base, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                same(own.to_bits().into(), ip.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => same(own.to_bits(), ip.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, bits) = text.split_once('/').ok_or(())?;
        let base: IpAddr = base.trim_matches(['[', ']']).parse().map_err(|_| ())?;
        let bits: u8 = bits.parse().map_err(|_| ())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        if bits <= most { Ok(Self { base, bits }) } else { Err(()) }
    }
}

/// Host and port of an authority, the host in lower case, without brackets and without a dot at its end.
fn split(authority: &str) -> (String, Option<u16>) {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match authority.split_once(':') {
            // More than one colon without brackets is an IPv6 address.
            Some((_, rest)) if rest.contains(':') => (authority, None),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (host, port.and_then(|port| port.parse().ok()))
}

/// An address without what wraps it: mapped, translated (RFC 6052) and 6to4 addresses stand for an IPv4 address.
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| {
        IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

/// The narrowest special range of an address.
fn special(ip: IpAddr) -> Option<(Network, &'static str, bool)> {
    SPECIAL.iter().find_map(|(text, kind, never)| {
        let range: Network = text.parse().ok()?;
        range.contains(ip).then_some((range, *kind, *never))
    })
}

/// Whether an address is one that this process listens on; a listener on all addresses is on every address of this host.
fn is_own(own: &SocketAddr, addr: SocketAddr) -> bool {
    own.port() == addr.port()
        && (plain(own.ip()) == addr.ip() || (own.ip().is_unspecified() && is_local(addr.ip())))
}

/// Whether this host has an address: nothing else can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests;
