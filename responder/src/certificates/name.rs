//! The names that certificates are made for. A name comes from a client, so it is checked here, once: it never is a wildcard, and never more
//! than one name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rcgen::SanType;
use rustls_pki_types::DnsName;

/// What a certificate is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// One host name, in lower case.
    Host(Box<str>),
    /// One address.
    Address(IpAddr),
    /// This machine, by the address that it was reached at: for clients that name nothing.
    Here(IpAddr),
}

impl Name {
    /// The name of a host as it stands in a URL or in a TLS hello, without a port.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Some(Self::Address(address));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = DnsName::try_from(host).ok()?;
        Some(Self::Host(name.as_ref().to_ascii_lowercase().into_boxed_str()))
    }

    /// What the certificate says that it is for.
    pub(super) fn alternatives(&self) -> Option<Vec<SanType>> {
        let host = |name: &str| Some(SanType::DnsName(name.try_into().ok()?));
        Some(match self {
            Self::Host(name) => vec![host(name)?],
            Self::Address(address) => vec![SanType::IpAddress(*address)],
            Self::Here(address) => {
                let mut all = vec![host("localhost")?, SanType::IpAddress(*address)];
                let loopback: [IpAddr; 2] =
                    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                all.extend(loopback.into_iter().filter(|l| l != address).map(SanType::IpAddress));
                all
            }
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Address(address) | Self::Here(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_one_at_a_time_and_never_wild() {
        let host = |name: &str| Some(Name::Host(name.into()));
        assert_eq!(Name::of_host("API.example.com."), host("api.example.com"));
        assert_eq!(Name::of_host("with_underscore.svc"), host("with_underscore.svc"));
        assert_eq!(Name::of_host("10.0.0.1"), Some(Name::Address([10, 0, 0, 1].into())));
        assert_eq!(Name::of_host("[::1]"), Some(Name::Address(Ipv6Addr::LOCALHOST.into())));
        let long = format!("{}.example", "a".repeat(64));
        let longer = vec!["abc"; 70].join(".");
        for wrong in
            ["", ".", "*", "*.example.com", "a,b", "a b", "a/b", "a:1", "-", &long, &longer]
        {
            assert_eq!(Name::of_host(wrong), None, "{wrong}");
        }
    }
}
