//! Opens everything that the data plane is reached by, and tells about it.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::{
    app::StartError,
    certificates::Certificates,
    config::Config,
    server::{self, Door, Listeners, route::Route},
};

/// A port whose requests are all for one host.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The host, with a port if one was given.
    pub host: String,
}

/// Everything that the data plane is reached by.
#[derive(Debug, Clone)]
pub(crate) struct Entrances {
    pub(crate) data: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) maps: Vec<Mapped>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) forward_proxy: bool,
}

impl Entrances {
    /// Reads the certificates and listens; nobody accepts yet.
    pub(crate) fn open(config: &Config) -> Result<(Self, Listeners), StartError> {
        let transport = &config.transport;
        let certificates =
            transport.tls.clone().map(|tls| Certificates::read(tls, Handle::current()));
        let certificates = certificates.transpose()?.map(Arc::new);
        let failed = |addr: SocketAddr, purpose: &'static str| {
            move |source| StartError::Listen { addr, purpose, source }
        };
        let mut listeners = server::listen(config.listen, config.runtime)
            .map_err(failed(config.listen, "recorded traffic"))?;
        let mut open = |addr: SocketAddr, purpose, door| {
            listeners.add(addr, door).map_err(failed(addr, purpose))
        };
        let tls = transport.tls_listen.map(|addr| {
            open(addr, "recorded traffic over TLS", Door { tls_only: true, ..Door::default() })
        });
        let tls = tls.transpose()?;
        let mut maps = Vec::new();
        for map in &transport.maps {
            let addr = SocketAddr::new(config.listen.ip(), map.port);
            let host = map.host.parse().ok().and_then(|authority| Route::to(&authority));
            let route = host.ok_or_else(|| StartError::Map(map.host.clone()))?;
            let addr = open(addr, "a mapped host", Door { route, tls_only: false })?;
            maps.push(Mapped { addr, host: map.host.clone() });
        }
        let data = listeners.addr();
        let forward_proxy = transport.forward_proxy;
        Ok((Self { data, tls, maps, certificates, forward_proxy }, listeners))
    }

    /// All addresses.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let mapped = self.maps.iter().map(|map| map.addr);
        mapped.chain([self.data]).chain(self.tls).collect()
    }

    /// What may be told about them. `is_recorded` knows the hosts that are served.
    pub(crate) fn status(&self, is_recorded: impl Fn(&str) -> bool) -> Value {
        let describe = |map: &Mapped| {
            json!({
                "address": map.addr.to_string(),
                "host": map.host,
                "recorded": is_recorded(&map.host),
            })
        };
        json!({
            "tls": self.certificates.as_ref().map(|certificates| certificates.status()),
            "tls_address": self.tls.map(|addr| addr.to_string()),
            "maps": self.maps.iter().map(describe).collect::<Vec<_>>(),
            "forward_proxy": self.forward_proxy,
        })
    }
}
