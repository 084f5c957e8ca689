//! What kind of network an address belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::services) enum Network {
    /// To the internet.
    Public,
    /// To this machine, or to networks that are somebody's own.
    Private,
    /// To neighbours on the link, where clouds put what tells a machine its secrets.
    Link,
    /// To no single host.
    Nowhere,
}

/// The network of an address. What embeds another address is taken for that one.
pub(in crate::services) fn network(address: IpAddr) -> Network {
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => of_v4(inner),
            None => of_v6(address),
        },
    }
}

fn of_v4(address: Ipv4Addr) -> Network {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        // Alibaba's metadata service is in the shared space, Oracle's in a reserved one.
        (169, 254, _) | (192, 0, 0) => Network::Link,
        (100, 100, 100) if address.octets()[3] == 200 => Network::Link,
        (127, ..) | (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => {
            Network::Private
        }
        // Benchmarks and documentation.
        (198, 18..=19, _) | (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Network::Private,
        (0 | 224..=255, ..) => Network::Nowhere,
        _ => Network::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Network {
    // The metadata service of AWS.
    const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let first = address.segments()[0];
    if address == AWS || first & 0xffc0 == 0xfe80 {
        Network::Link
    } else if address.is_unspecified() || first & 0xff00 == 0xff00 {
        Network::Nowhere
    } else if address.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 {
        Network::Private
    } else if first & 0xe000 == 0x2000 {
        Network::Public
    } else {
        Network::Nowhere
    }
}

/// The IPv4 address to which an IPv6 one leads: mapped, NAT64, 6to4, or compatible ones.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let last = Ipv4Addr::from((u32::from(g) << 16) | u32::from(h));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(last),
        [0, 0, 0, 0, 0, 0] if u32::from(last) > 1 => Some(last),
        [0x2002, ..] => Some(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_embed_others_are_taken_for_those() {
        for (text, expected) in [
            ("::ffff:127.0.0.1", Network::Private),
            ("::127.0.0.1", Network::Private),
            ("64:ff9b::a9fe:a9fe", Network::Link),
            ("2002:a9fe:a9fe::1", Network::Link),
            ("::ffff:8.8.8.8", Network::Public),
            ("::", Network::Nowhere),
            ("::1", Network::Private),
            ("fd00:ec2::254", Network::Link),
            ("fd00::254", Network::Private),
            ("2001:4860:4860::8888", Network::Public),
            ("100.100.100.200", Network::Link),
            ("100.64.0.1", Network::Private),
            ("172.32.0.1", Network::Public),
            ("255.255.255.255", Network::Nowhere),
        ] {
            assert_eq!(network(text.parse().unwrap()), expected, "{text}");
        }
    }
}
