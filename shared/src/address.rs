//! Which addresses a receiver may have: those of the public internet only.
//!
//! Everything of the IANA special-purpose registries (IPv4 and IPv6) that is not globally reachable is refused, and so is
//! multicast. The Lambda Runtime API, which hands out credentials and events, lives on such an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Refused ranges of IPv4: network and length of its prefix.
const BLOCKED_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Refused ranges of IPv6. `::/8` holds the loopback address and the IPv4-mapped and -compatible forms.
const BLOCKED_V6: [(Ipv6Addr, u32); 10] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// `64:ff9b::/96` carries an IPv4 address, which decides (RFC 6052).
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether `address` is one of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !BLOCKED_V4
        .iter()
        .any(|(network, length)| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let lies_in = |(network, length): &(Ipv6Addr, u32)| {
        (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0
    };
    if lies_in(&NAT64) || address.to_ipv4_mapped().is_some() {
        return is_public_v4(Ipv4Addr::from_bits(address.to_bits() as u32));
    }
    !BLOCKED_V6.iter().any(lies_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blocked_range_is_refused_up_to_its_edges() {
        for (network, length) in BLOCKED_V4 {
            let first = network.to_bits();
            let last = first | (u32::MAX >> length);
            for bits in [first, first + (last - first) / 2, last] {
                assert!(
                    !is_public(Ipv4Addr::from_bits(bits).into()),
                    "{}",
                    Ipv4Addr::from_bits(bits)
                );
            }
        }
        for (network, length) in BLOCKED_V6 {
            let first = network.to_bits();
            let last = first | (u128::MAX >> length);
            for bits in [last - (last - first) / 3, last] {
                assert!(
                    !is_public(Ipv6Addr::from_bits(bits).into()),
                    "{}",
                    Ipv6Addr::from_bits(bits)
                );
            }
        }
    }

    #[test]
    fn neighbours_of_blocked_ranges_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "3ffe::",
            "3fff:1000::",
            "5eff::",
            "5f01::",
            "fbff::",
            "2606:4700::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "100:0:0:1::",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn embedded_ipv4_addresses_are_seen() {
        for text in [
            "::1",
            "::",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "fe80::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }
}
