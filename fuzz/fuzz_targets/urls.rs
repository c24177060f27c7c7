//! The rule for receivers' URLs: what it accepts is https, public as far as can be known, and read the same way again.

#![no_main]

use std::net::IpAddr;

use domain::receiver::address::is_public;
use domain::receiver::url::check_url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = check_url(text, true);
    let Ok(url) = check_url(text, false) else {
        return;
    };
    assert_eq!(url.scheme(), "https");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    let host = url.host_str().expect("a host");
    assert!(!host.trim_end_matches('.').ends_with("localhost"));
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        assert!(is_public(address), "{address}");
    }
    assert!(
        !url.as_str()
            .bytes()
            .any(|byte| byte.is_ascii_control() || byte == b' ')
    );
    assert_eq!(
        check_url(url.as_str(), false).as_ref(),
        Ok(&url),
        "the same when read again"
    );
});
