//! IP addresses: which of them anybody may be sent to, and ranges of the others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{as_text, shortened};

/// What an address is, as far as reaching it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Routed on the internet.
    Public,
    /// Means something only near this machine, or is reserved: loopback, link-local (with the metadata services of
    /// clouds), private and shared networks, documentation, tunnels. Reachable with a grant that names it.
    Special,
    /// Means many machines, or none: never reachable. `0.0.0.0` is among them because systems take it for themselves.
    Never,
}

impl AddressClass {
    /// The class of an address. One that carries an IPv4 address within (mapped, translated, tunnelled) is no better than
    /// that one.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }
}

/// The special-purpose registry of IANA (RFC 6890 and its updates) for IPv4.
fn of_v4(ip: Ipv4Addr) -> AddressClass {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        (224..=239, ..) => AddressClass::Never,
        _ if ip.is_unspecified() || ip.is_broadcast() => AddressClass::Never,
        // "This network", private, shared (CGNAT), loopback, link-local, private.
        (0 | 10 | 127, ..) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) => AddressClass::Special,
        // Protocol assignments, documentation, the old 6to4 anycast, private.
        (192, 0, 0 | 2) | (192, 88, 99) | (192, 168, _) => AddressClass::Special,
        // Benchmarks, documentation, reserved.
        (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) | (240..=255, ..) => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

/// The same for IPv6, where only 2000::/3 is handed out, and not all of that.
fn of_v6(ip: Ipv6Addr) -> AddressClass {
    let segments = ip.segments();
    let v4_at = |at: usize| {
        let [a, b] = [segments[at].to_be_bytes(), segments[at + 1].to_be_bytes()];
        Ipv4Addr::new(a[0], a[1], b[0], b[1])
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => AddressClass::Never,
        // NAT64 (RFC 6052) and 6to4: the address within says where it goes.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => of_v4(v4_at(6)),
        [0x2002, ..] => of_v4(v4_at(1)),
        // Protocol assignments with Teredo, documentation twice.
        [0x2001, 0x0000..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => AddressClass::Special,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        // Loopback, IPv4-compatible, local NAT64, unique local, link-local, site-local, and what nobody has yet.
        _ => AddressClass::Special,
    }
}

/// Addresses with the same first bits: `10.0.0.0/8`; one address is a range, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address range: {why} (hint: write 10.0.0.0/8, 192.168.1.7 or fd00::/8)")]
pub struct InvalidRange {
    text: String,
    why: String,
}

impl AddressRange {
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && masked(ip, self.bits) == self.first
    }

    /// Whether every address of `other` is in this range.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }
}

/// The address with all bits after the first `bits` cleared.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why: &str| InvalidRange { text: shortened(text), why: why.to_owned() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| fail("it has no IP address"))?;
        if ip.to_canonical() != ip {
            return Err(fail("an IPv4 address is written as one"));
        }
        let bits_max = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            // Not "+8" and not "08", which are read differently elsewhere.
            Some(bits) => bits
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= bits_max && n.to_string() == bits)
                .ok_or_else(|| fail(&format!("its length is not a number from 0 to {bits_max}")))?,
        };
        let first = masked(ip, bits);
        if first != ip {
            return Err(fail(&format!("bits are set behind its length, the range is {first}/{bits}")));
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.bits) {
            (IpAddr::V4(ip), 32) => write!(f, "{ip}"),
            (IpAddr::V6(ip), 128) => write!(f, "{ip}"),
            (ip, bits) => write!(f, "{ip}/{bits}"),
        }
    }
}

as_text!(AddressRange);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> AddressClass {
        AddressClass::of(text.parse().unwrap())
    }

    #[test]
    fn what_is_near_is_special_in_every_form() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.5",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.7",
            "192.0.2.1",
            "198.18.0.1",
            "240.0.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "fc00::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "fd00:ec2::254",
            "4000::1",
        ] {
            assert_eq!(class(text), AddressClass::Special, "{text}");
        }
        for text in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1", "::ffff:0.0.0.0", "64:ff9b::"] {
            assert_eq!(class(text), AddressClass::Never, "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.169.0.1",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
            "2002:101:101::",
        ] {
            assert_eq!(class(text), AddressClass::Public, "{text}");
        }
    }

    #[test]
    fn ranges_are_read_strictly() {
        for text in ["10.0.0.0/8", "192.168.1.7", "fd00::/8", "0.0.0.0/0", "::/0", "fd00::1"] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.1/8",
            "10/8",
            "a/8",
            "::ffff:10.0.0.1",
            "1.2.3.4/",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
        let error = "10.0.0.1/8".parse::<AddressRange>().unwrap_err().to_string();
        assert!(error.contains("the range is 10.0.0.0/8"), "{error}");
    }

    proptest! {
        /// Against the obvious way: bit by bit.
        #[test]
        fn a_range_contains_what_has_its_first_bits(first: u32, bits in 0..=32u8, ip: u32) {
            let first = masked(IpAddr::V4(first.into()), bits);
            let range = AddressRange { first, bits };
            let IpAddr::V4(first) = first else { unreachable!() };
            let same = (0..u32::from(bits)).all(|bit| (first.to_bits() << bit) >> 31 == (ip << bit) >> 31);
            prop_assert_eq!(range.contains(IpAddr::V4(ip.into())), same);
            prop_assert_eq!(range.contains(IpAddr::V6(Ipv4Addr::from(ip).to_ipv6_mapped())), same);
            prop_assert!(range.covers(&range));
        }

        #[test]
        fn a_range_that_covers_another_contains_its_addresses(ip: u128, wide in 0..=128u8, narrow in 0..=128u8) {
            let ip = Ipv6Addr::from(ip);
            prop_assume!(ip.to_ipv4_mapped().is_none());
            let range = |bits| AddressRange { first: masked(IpAddr::V6(ip), bits), bits };
            prop_assert_eq!(range(wide).covers(&range(narrow)), wide <= narrow);
        }
    }
}
