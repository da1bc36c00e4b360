//! Whether a configuration makes sense, and the sockets that it asks for.

use std::net::{SocketAddr, TcpListener};

use super::StartError;
use crate::{
    config::Config,
    control_plane::Way,
    secrets,
    sequence::{self, PeerTls, PeerTlsError},
};

pub(super) fn listen(
    addr: SocketAddr,
    purpose: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    TcpListener::bind(addr)
        .and_then(|listener| listener.local_addr().map(|addr| (listener, addr)))
        .map_err(|source| StartError::Listen { addr, purpose, source })
}

/// Refuses settings that make no sense, and tells how the control plane is reached.
pub(super) fn check(config: &Config) -> Result<Option<Way>, StartError> {
    if !config.admin_listen.ip().is_loopback() && !config.allow_insecure {
        return Err(StartError::InsecureAdmin(config.admin_listen));
    }
    if let Some(addr) = config.api_listen.filter(|addr| !addr.ip().is_loopback())
        && !config.allow_insecure
    {
        return Err(StartError::InsecureApi(addr));
    }
    let dir = &config.secret_dir;
    secrets::check(dir).map_err(|source| StartError::SecretDir { dir: dir.clone(), source })?;
    check_peers(config)?;
    let url = config.control_plane.clone();
    Ok(url
        .map(|url| Way::new(url, &config.control_plane_tls, config.control_plane_token.clone()))
        .transpose()?)
}

fn check_peers(config: &Config) -> Result<(), StartError> {
    let Some(addr) = config.peer_listen else { return Ok(()) };
    let is_mutual = config.control_plane_tls.is_mutual();
    if !addr.ip().is_loopback() && !is_mutual && !config.allow_insecure {
        return Err(StartError::InsecurePeers(addr));
    }
    if addr.ip().is_unspecified() && config.peer_advertise.is_none() {
        return Err(StartError::PeerAddress(addr));
    }
    Ok(())
}

/// Where other responders come, and what they are shown.
#[expect(clippy::type_complexity, reason = "a listener, if any, and its address")]
pub(super) fn listen_peers(
    config: &Config,
) -> Result<(Option<(TcpListener, SocketAddr)>, Option<PeerTls>), StartError> {
    let tls = peer_tls(config)?;
    let listening = config.peer_listen.map(|addr| listen(addr, sequence::PURPOSE)).transpose()?;
    Ok((listening, tls))
}

/// How other responders are spoken to. That what is shown to the control plane is no responder's matters to one that others reach.
fn peer_tls(config: &Config) -> Result<Option<PeerTls>, StartError> {
    match PeerTls::read(&config.control_plane_tls) {
        Err(PeerTlsError::Identity(_)) if config.peer_listen.is_none() => Ok(None),
        read => read.map_err(|error| StartError::PeerTls(Box::new(error))),
    }
}
