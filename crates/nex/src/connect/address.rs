//! Addresses of servers, as far as they are compared with that of a `nex up`.

use async_nats::ServerAddr;

/// The port of a server's address.
pub(super) fn port(url: &str) -> Option<u16> {
    Some(url.parse::<ServerAddr>().ok()?.port())
}

/// The port of an address that leads to 127.0.0.1, where a `nex up` listens; none for others.
///
/// `::1` counts where `listens_on_ipv6` denies that another program listens on its port.
pub(super) fn loopback_port(url: &str, listens_on_ipv6: impl FnOnce(u16) -> bool) -> Option<u16> {
    let address: ServerAddr = url.trim().parse().ok()?;
    if address.scheme() != "nats" {
        return None;
    }
    let port = address.port();
    let host = address.host().trim_matches(['[', ']']).to_ascii_lowercase();
    let leads_there = match host.as_str() {
        "127.0.0.1" | "localhost" => true,
        "::1" => !listens_on_ipv6(port),
        _ => false,
    };
    leads_there.then_some(port)
}
