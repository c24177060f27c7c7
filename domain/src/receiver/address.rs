//! Which addresses a receiver may have: those of the public internet only.
//!
//! Everything of the IANA special-purpose registries (IPv4 and IPv6) that is not globally reachable is refused, and so is
//! multicast. Of IPv6 only `2000::/3` is public at all: nothing else has been assigned for global unicast.
//! The Lambda Runtime API, which hands out credentials and events, lives on an address that is refused.

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

/// What IANA has assigned for global unicast (RFC 4291, section 2.4, and the registry of address space).
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Refused ranges of IPv6. `::/8` holds the loopback address and the IPv4-mapped and -compatible forms; `2001::/23` is for
/// protocols, such as Teredo, which carries IPv4 addresses.
const BLOCKED_V6: [(Ipv6Addr, u32); 11] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
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
    let lies_in = |(network, length): &(Ipv4Addr, u32)| {
        (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0
    };
    !BLOCKED_V4.iter().any(lies_in)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let lies_in = |(network, length): &(Ipv6Addr, u32)| {
        (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0
    };
    if lies_in(&NAT64) || address.to_ipv4_mapped().is_some() {
        return is_public_v4(Ipv4Addr::from_bits(address.to_bits() as u32));
    }
    lies_in(&GLOBAL_UNICAST_V6) && !BLOCKED_V6.iter().any(lies_in)
}

/// Whether `name`, in lower case and in its ASCII form, has the form of a host name: labels of 1 to 63 letters, digits and dashes,
/// no dash at their ends, 253 characters in all (RFC 1123, section 2.1). Underscores are no part of host names, but of the
/// names of hosts that exist.
pub fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether a host name, in lower case, can be one of the public internet. Names without a dot and those that are reserved
/// for local use (RFC 6761, RFC 6762, ICANN's `.internal`) resolve on networks of our own at the most. What a name resolves
/// to decides at every attempt; this only says early what will never work.
pub fn can_be_public(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit_once('.')
        .is_some_and(|(_, last)| !matches!(last, "localhost" | "local" | "internal"))
}

#[cfg(test)]
mod tests {
    use properties::{Random, RngExt};

    use super::*;

    /// `::ffff:0:0/96`, the IPv4-mapped addresses.
    const MAPPED: u128 = 0xffff << 32;

    /// The bounds of a range.
    fn bounds_v6((network, length): (Ipv6Addr, u32)) -> (u128, u128) {
        let first = network.to_bits();
        (first, first | (u128::MAX >> length))
    }

    fn bounds_v4((network, length): (Ipv4Addr, u32)) -> (u32, u32) {
        let first = network.to_bits();
        (first, first | (u32::MAX >> length))
    }

    #[test]
    fn every_blocked_range_is_refused_up_to_its_edges() {
        for range in BLOCKED_V4 {
            let (first, last) = bounds_v4(range);
            for bits in [first, first + 1, first + (last - first) / 2, last - 1, last] {
                let address = Ipv4Addr::from_bits(bits);
                assert!(!is_public(address.into()), "{address}");
            }
        }
        for range in BLOCKED_V6 {
            let (first, last) = bounds_v6(range);
            for bits in [first, first + 1, last - (last - first) / 3, last - 1, last] {
                let address = Ipv6Addr::from_bits(bits);
                assert!(!is_public(address.into()), "{address}");
            }
        }
    }

    #[test]
    fn one_step_outside_of_a_blocked_range_lies_another_one_or_the_public_internet() {
        let is_listed_v4 = |address: u32| {
            BLOCKED_V4.iter().any(|range| {
                let (first, last) = bounds_v4(*range);
                (first..=last).contains(&address)
            })
        };
        for range in BLOCKED_V4 {
            let (first, last) = bounds_v4(range);
            for outside in [first.checked_sub(1), last.checked_add(1)]
                .into_iter()
                .flatten()
            {
                let address = Ipv4Addr::from_bits(outside);
                assert_eq!(
                    is_public(address.into()),
                    !is_listed_v4(outside),
                    "{address}"
                );
            }
        }
        let is_listed_v6 = |address: u128| {
            BLOCKED_V6.iter().any(|range| {
                let (first, last) = bounds_v6(*range);
                (first..=last).contains(&address)
            })
        };
        let (first_global, last_global) = bounds_v6(GLOBAL_UNICAST_V6);
        for range in BLOCKED_V6.into_iter().chain([GLOBAL_UNICAST_V6]) {
            let (first, last) = bounds_v6(range);
            for outside in [first.checked_sub(1), last.checked_add(1)]
                .into_iter()
                .flatten()
            {
                let address = Ipv6Addr::from_bits(outside);
                let expected =
                    (first_global..=last_global).contains(&outside) && !is_listed_v6(outside);
                assert_eq!(is_public(address.into()), expected, "{address}");
            }
        }
    }

    /// Any address of IPv4, half of the time one inside a listed range or next to it.
    fn any_v4(random: &mut Random) -> u32 {
        let (first, last) = bounds_v4(properties::one_of(random, &BLOCKED_V4));
        match random.random_range(0..6) {
            0 => random.random_range(first..=last),
            1 => first.wrapping_sub(random.random_range(0..3)),
            2 => last.wrapping_add(random.random_range(0..3)),
            _ => random.random(),
        }
    }

    #[test]
    fn an_ipv4_address_is_public_unless_it_lies_in_a_listed_range() {
        properties::holds(any_v4, |&bits| {
            let listed = BLOCKED_V4.iter().any(|range| {
                let (first, last) = bounds_v4(*range);
                (first..=last).contains(&bits)
            });
            let address = Ipv4Addr::from_bits(bits);
            assert_eq!(is_public(address.into()), !listed);
            // However it is wrapped, the inner address decides, or the wrapping is refused altogether.
            assert_eq!(is_public(address.to_ipv6_mapped().into()), !listed);
            let nat64 = Ipv6Addr::from_bits(NAT64.0.to_bits() | u128::from(bits));
            assert_eq!(is_public(nat64.into()), !listed);
            assert!(!is_public(address.to_ipv6_compatible().into()));
            let six_to_four = Ipv6Addr::from_bits((0x2002 << 112) | (u128::from(bits) << 80));
            assert!(!is_public(six_to_four.into()));
        });
    }

    #[test]
    fn an_ipv6_address_inside_a_listed_range_is_never_public() {
        let address = |random: &mut Random| {
            let (network, length) = properties::one_of(random, &BLOCKED_V6);
            let bits = match random.random_range(0..4) {
                0 => MAPPED | u128::from(any_v4(random)),
                1 => random.random::<u128>() >> random.random_range(0..128),
                _ => random.random(),
            };
            Ipv6Addr::from_bits(network.to_bits() | (bits & (u128::MAX >> length)))
        };
        properties::holds(address, |&address| {
            // The mapped forms lie in ::/8 and are decided by what they carry.
            if let Some(inner) = address.to_ipv4_mapped() {
                assert_eq!(is_public(address.into()), is_public(inner.into()));
            } else {
                assert!(!is_public(address.into()), "{address}");
            }
        });
    }

    #[test]
    fn outside_of_global_unicast_only_mapped_and_translated_addresses_can_be_public() {
        let address = |random: &mut Random| {
            if random.random() {
                return Ipv6Addr::from_bits(random.random());
            }
            // One bit away from a public one.
            let network = properties::one_of(
                random,
                &[NAT64.0.to_bits(), MAPPED, GLOBAL_UNICAST_V6.0.to_bits()],
            );
            let public = network | u128::from(random.random::<u32>());
            Ipv6Addr::from_bits(public ^ (1 << random.random_range(0..128)))
        };
        properties::holds(address, |&address| {
            let bits = address.to_bits();
            let (first, last) = bounds_v6(GLOBAL_UNICAST_V6);
            let carries_ipv4 = bits >> 32 == NAT64.0.to_bits() >> 32 || bits >> 32 == MAPPED >> 32;
            if !(first..=last).contains(&bits) && !carries_ipv4 {
                assert!(!is_public(address.into()), "{address}");
            }
        });
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
            "2000::",
            "2001:200::",
            "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2606:4700::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
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
            // Teredo, site-local, and what has not been assigned.
            "2001:0:53aa:64c::1",
            "fec0::1",
            "4000::1",
            "1fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn names_of_local_networks_cannot_be_public() {
        for name in [
            "example.com",
            "example.com.",
            "xn--mnchen-3ya.example",
            "local.example",
        ] {
            assert!(is_host_name(name) && can_be_public(name), "{name}");
        }
        for name in [
            "localhost",
            "localhost.",
            "a.localhost",
            "erp",
            "erp.",
            "a.local",
            "a.b.internal.",
        ] {
            assert!(!can_be_public(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            ".a",
            "a..",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            assert!(!is_host_name(name), "{name}");
        }
        assert!(is_host_name(&format!("{}a", "a.".repeat(126))));
    }
}
