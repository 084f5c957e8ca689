//! Addresses of servers, as far as they are compared with that of a `nex up`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_nats::ServerAddr;

use super::resolve::Outside;

/// The port of a server's address.
pub(super) fn port(url: &str) -> Option<u16> {
    Some(url.parse::<ServerAddr>().ok()?.port())
}

/// The address of a server without TLS or WebSocket, as that of a `nex up` is; none for others.
pub(super) fn plain(url: &str) -> Option<ServerAddr> {
    let address: ServerAddr = url.trim().parse().ok()?;
    (address.scheme() == "nats").then_some(address)
}

/// Returns `true` where an address leads to 127.0.0.1, where a `nex up` listens.
///
/// A name does if all its addresses are of loopback. Another address of loopback than 127.0.0.1 counts
/// where no program listens on its port.
pub(super) fn leads_here(server: &ServerAddr, outside: &impl Outside) -> bool {
    let host = server.host();
    let host = host.trim_matches(['[', ']']);
    let ips = match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_name) => outside.addresses(host),
    };
    let ips: Vec<IpAddr> = ips.into_iter().map(destination).collect();
    let free = |ip: &IpAddr| !outside.listens(SocketAddr::new(*ip, server.port()));
    !ips.is_empty()
        && ips.iter().all(IpAddr::is_loopback)
        && (ips.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)) || ips.iter().all(free))
}

/// The address that a connection to an address is made to: one to 0.0.0.0 is made to 127.0.0.1.
fn destination(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
