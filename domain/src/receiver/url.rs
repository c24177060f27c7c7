//! Checks the URLs of receivers.

use url::{Host, Url};

use super::address::{can_be_public, is_host_name, is_public};

/// The longest URL.
pub const MAX_URL_CHARS: usize = 2_048;
/// Checks a receiver's URL: https (http where private receivers are allowed), at most [`MAX_URL_CHARS`], a host, no
/// userinfo, no fragment; not an address that is not public, however it is spelled, nor a name that cannot be public.
///
/// # Errors
/// A sentence for the caller.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, String> {
    if text.chars().count() > MAX_URL_CHARS {
        return Err(format!(
            "must not be longer than {MAX_URL_CHARS} characters"
        ));
    }
    // Backslashes are slashes to some parsers and part of a name to others: what we check would not be what others read.
    if text
        .chars()
        .any(|letter| letter.is_control() || letter.is_whitespace() || letter == '\\')
    {
        return Err("must not contain spaces, backslashes or control characters".to_owned());
    }
    let url = Url::parse(text)
        .map_err(|_| "must be an absolute URL such as https://erp.example.com/events".to_owned())?;
    let begins_with = |start: &str| {
        text.get(..start.len())
            .is_some_and(|given| given.eq_ignore_ascii_case(start))
    };
    let is_allowed = begins_with("https://") || (allow_private && begins_with("http://"));
    if !is_allowed {
        return Err("must begin with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or a password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not contain a fragment (#)".to_owned());
    }
    if url.port() == Some(0) {
        return Err("must not have the port 0".to_owned());
    }
    let public = match url.host() {
        None => return Err("must name a host".to_owned()),
        Some(Host::Domain(name)) if !is_host_name(name) => {
            return Err("must name a host that can exist: letters, digits, dashes and dots, with no placeholder left in it".to_owned());
        }
        Some(Host::Domain(name)) => can_be_public(name),
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
    };
    if !public && !allow_private {
        return Err("must be an address of the public internet".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use properties::{Random, RngExt};

    use super::*;

    #[test]
    fn urls_of_receivers_are_public_https() {
        for url in [
            "https://erp.example.com",
            "https://erp.example.com:8443/a/b?c=d",
            "https://8.8.8.8/x",
            "https://xn--mnchen-3ya.example/",
            "https://münchen.example/",
            "https://erp.example.com./",
            "HTTPS://ERP.EXAMPLE.COM/",
            "https://erp_1.example.com/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(check_url(url, false).is_ok(), "{url}");
        }
        for url in [
            "",
            "erp.example.com",
            "http://erp.example.com",
            "ftp://erp.example.com",
            "https://",
            "https://user@erp.example.com/",
            "https://user:pw@erp.example.com/",
            "https://:pw@erp.example.com/",
            "https://erp.example.com/#part",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1%25eth0]/",
            "https://169.254.169.254/latest/meta-data",
            "https://127.1/",
            "https://erp.example.com/a b",
            "https://erp.example.com/\u{7}",
            "javascript:alert(1)",
            "https:erp.example.com",
            "https:/erp.example.com",
            "https:\\\\erp.example.com\\",
            "https://erp.example.com\\@127.0.0.1/",
            "https://127.0.0.1\\@erp.example.com/",
            "https://erp.example.com:0/",
            "https://erp.example.com:65536/",
            "https://a..example/",
            "https://.example.com/",
            "https://erp.example.com../",
            &format!("https://{}.example/", "a".repeat(64)),
            &format!("https://{}example/", "a.".repeat(124)),
            // Loopback and the metadata service, in every spelling that a resolver or a parser may take for them.
            "https://127.0.0.1./",
            "https://127.0.0.1.:443/",
            "https://017700000001/",
            "https://0x7f000001/",
            "https://0x7f.0x0.0x0.0x1/",
            "https://0/",
            "https://0x/",
            "https://127.0.1/",
            "https://①②⑦.⓪.⓪.①/",
            "https://１２７.０.０.１/",
            "https://127。0。0。1/",
            "https://%31%32%37.0.0.1/",
            "https://2852039166/",
            "https://0xa9fea9fe/",
            "https://0251.0376.0251.0376/",
            "https://[::]/",
            "https://[::127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[0:0:0:0:0:ffff:169.254.169.254]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[2002:7f00:1::]/",
            "https://[::1%25lo]/",
            "https://[::1%lo]/",
            "https://[fd00:ec2::254]/",
            // Names that are never public.
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://ｌｏｃａｌｈｏｓｔ/",
            "https://intranet/",
            "https://intranet./",
            "https://printer.local/",
            "https://ip-10-0-0-1.ec2.internal/",
            // Placeholders that were not filled in, and what else no host is called.
            "https://${CALLBACK_HOST}.example.com/h",
            "https://{{host}}.example.com/",
            "https://$host.example.com/",
            "https://%24host.example.com/",
            "https://<host>.example.com/",
            "https://[host].example.com/",
            "https://a,b.example.com/",
            "https://-a.example.com/",
            "https://a-.example.com/",
            "https://a..example.com/",
            &format!("https://erp.example.com/{}", "a".repeat(2_048)),
        ] {
            assert!(check_url(url, false).is_err(), "{url}");
        }
        assert!(check_url("http://127.0.0.1:9000/hook", true).is_ok());
        assert!(check_url("http://user@127.0.0.1:9000/hook", true).is_err());
    }

    /// Texts that look like URLs: any pieces in a URL's order, hosts of pieces that parsers read in their own ways, and URLs
    /// with a few letters changed.
    fn url_like(random: &mut Random) -> String {
        const HOST: &str = ". . . : @ % [ ] :: ffff: 0x 0 10 127 254 2130706433 ① ０ 。 a example localhost - xn--";
        const WHOLE: [&str; 5] = [
            "https://erp.example.com/events",
            "https://erp.example.com:8443/a/b?c=d",
            "https://8.8.8.8/x",
            "https://[2606:4700::1111]:443/",
            "https://münchen.example./",
        ];
        match random.random_range(0..3) {
            0 => {
                let mut text = String::new();
                if random.random() {
                    text += properties::one_of(random, &["http:", "https:"]);
                    text += &"/".repeat(random.random_range(0..=3));
                }
                for _ in 0..random.random_range(0..=4) {
                    text += &properties::spelled(
                        random,
                        "abcdefghijklmnopqrstuvwxyz0123456789@:.%[]-",
                        12,
                    );
                    text += properties::one_of(random, &[".", "/", "@", ":", "\\", "#", "?"]);
                }
                text += &properties::spelled(random, "0123456789abcdefx.", 12);
                if random.random() {
                    text += "/";
                    text += &properties::spelled(random, "abcdefghijklmnopqrstuvwxyz#?", 5);
                }
                text
            }
            1 => {
                let pieces: Vec<&str> = HOST.split(' ').collect();
                format!("https://{}/", properties::joined(random, &pieces, 8))
            }
            _ => {
                let whole = properties::one_of(random, &WHOLE);
                properties::damaged(random, whole, 3)
            }
        }
    }

    #[test]
    fn what_is_accepted_is_public_https_and_stays_accepted() {
        properties::holds(url_like, |text| {
            if let Ok(url) = check_url(text, false) {
                assert_eq!(url.scheme(), "https");
                assert!(
                    url.username().is_empty()
                        && url.password().is_none()
                        && url.fragment().is_none()
                );
                assert_eq!(check_url(url.as_str(), false), Ok(url.clone()));
                match url.host() {
                    Some(Host::Ipv4(address)) => assert!(is_public(address.into())),
                    Some(Host::Ipv6(address)) => assert!(is_public(address.into())),
                    Some(Host::Domain(name)) => assert!(name.parse::<std::net::IpAddr>().is_err()),
                    None => panic!("no host"),
                }
            }
        });
    }

    #[test]
    fn no_spelling_of_an_inner_ipv4_address_is_accepted() {
        // Any address, half of the time one of an inner network of at most 16 bits.
        let address = |random: &mut Random| {
            let inner = properties::one_of(
                random,
                &[
                    [10, 0],
                    [100, 64],
                    [127, 0],
                    [169, 254],
                    [172, 16],
                    [192, 168],
                ],
            );
            let [a, b, c, d] = random.random::<u32>().to_be_bytes();
            let [a, b] = if random.random() { inner } else { [a, b] };
            let address = std::net::Ipv4Addr::new(a, b, c, d);
            let bits = address.to_bits();
            let host = match random.random_range(0..6) {
                0 => address.to_string(),
                1 => bits.to_string(),
                2 => format!("0x{bits:x}"),
                3 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
                4 => format!("{a}.{}", bits & 0xff_ffff),
                _ => format!("[::ffff:{address}]"),
            };
            (address, host)
        };
        properties::holds(address, |(address, host)| {
            let url = format!("https://{host}/");
            assert_eq!(
                check_url(&url, false).is_ok(),
                is_public((*address).into()),
                "{host}"
            );
        });
    }
}
