//! Whom a request may reach, as a table.

use super::*;

fn policy(rules: &[&str]) -> Policy {
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    Policy::of(rules, vec!["127.0.0.1:4140".parse().unwrap(), "0.0.0.0:4999".parse().unwrap()])
}

fn told(result: &Result<(), Refused>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(Refused::Host(_)) => "host",
        Err(Refused::Address(..)) => "address",
        Err(Refused::Never(..)) => "never",
        Err(Refused::Own(..)) => "own",
    }
}

#[test]
fn every_special_range_is_read() {
    for (text, ..) in SPECIAL {
        assert!(text.parse::<Network>().is_ok(), "{text}");
    }
}

#[test]
fn addresses_that_are_not_public_are_refused() {
    let all = policy(&["*.example.com", "api.example.com", "0.0.0.0/0", "::/0"]);
    let check =
        |ip: &str| told(&all.check("api.example.com", SocketAddr::new(ip.parse().unwrap(), 80)));
    for ip in ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "2001:4860:4860::8888"] {
        assert_eq!(check(ip), "ok", "{ip}");
    }
    for ip in [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "::1",
        "fd00:ec2::254",
        "fd12::1",
        "fc00::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "2001:db8::1",
        "2001:0::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
    ] {
        assert_eq!(check(ip), "address", "{ip}");
    }
    for ip in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "ff02::1",
        "::7f00:1",
        "::ffff:0.0.0.0",
        "100::1",
    ] {
        assert_eq!(check(ip), "never", "{ip}");
    }
}

#[test]
fn a_rule_opens_what_it_names_and_not_more() {
    for (rule, ip, port, expected) in [
        ("127.0.0.1", "127.0.0.1", 1, "ok"),
        ("127.0.0.1", "127.0.0.2", 1, "address"),
        ("127.0.0.1", "::ffff:127.0.0.1", 1, "ok"),
        ("127.0.0.1:80", "127.0.0.1", 80, "ok"),
        ("127.0.0.1:80", "127.0.0.1", 81, "address"),
        ("127.0.0.0/8", "127.9.9.9", 1, "ok"),
        ("10.0.0.0/8", "10.200.0.1", 1, "ok"),
        ("10.1.0.0/16", "10.2.0.1", 1, "address"),
        ("10.0.0.0/7", "10.2.0.1", 1, "address"),
        ("169.254.0.0/16", "169.254.1.1", 1, "ok"),
        ("169.254.0.0/16", "169.254.169.254", 1, "address"),
        ("169.254.169.254", "169.254.169.254", 1, "ok"),
        ("[::1]", "::1", 1, "ok"),
        ("[::1]:80", "::1", 81, "address"),
        ("fd00::/8", "fd00:ec2::254", 1, "address"),
        ("fd00::/8", "fd00:ec2::1", 1, "ok"),
        ("0.0.0.0", "0.0.0.0", 1, "never"),
        ("localhost", "127.0.0.1", 1, "address"),
    ] {
        let addr = SocketAddr::new(ip.parse().unwrap(), port);
        assert_eq!(told(&policy(&[rule]).check("h", addr)), expected, "{rule} and {addr}");
    }
}

#[test]
fn own_listeners_are_never_reached() {
    let open = policy(&["127.0.0.0/8", "[::1]"]);
    for (addr, expected) in [
        ("127.0.0.1:4140", "own"),
        ("[::ffff:127.0.0.1]:4140", "own"),
        ("127.0.0.1:4141", "ok"),
        ("127.0.0.2:4999", "own"),
        ("[::1]:4999", "own"),
    ] {
        assert_eq!(told(&open.check("h", addr.parse().unwrap())), expected, "{addr}");
    }
}

#[test]
fn hosts_are_allowed_by_name_port_and_suffix() {
    let rules = policy(&[
        "api.example.com",
        "https://pay.example.com",
        "other.example.com:8443",
        "*.svc.example.org",
        "10.1.0.0/16",
    ]);
    let told = |authority: &str, scheme: Option<&str>| match rules.destination(authority, scheme) {
        Ok(found) => format!("{}{}", if found.tls { "tls " } else { "" }, found),
        Err(_) => "refused".to_owned(),
    };
    for (authority, scheme, expected) in [
        ("api.example.com", None, "api.example.com:80"),
        ("API.Example.com.", None, "api.example.com:80"),
        ("api.example.com:443", None, "tls api.example.com:443"),
        ("api.example.com:8080", Some("https"), "tls api.example.com:8080"),
        ("api.example.com", Some("https"), "tls api.example.com:443"),
        ("user@api.example.com", None, "api.example.com:80"),
        ("pay.example.com", None, "tls pay.example.com:443"),
        ("other.example.com", None, "other.example.com:8443"),
        ("other.example.com:80", None, "refused"),
        ("a.svc.example.org", None, "a.svc.example.org:80"),
        ("svc.example.org", None, "refused"),
        (".svc.example.org", None, "refused"),
        ("evilsvc.example.org", None, "refused"),
        ("api.example.com.evil.org", None, "refused"),
        ("10.1.2.3", None, "10.1.2.3:80"),
        ("[::ffff:10.1.2.3]:81", None, "::ffff:10.1.2.3:81"),
        ("10.2.2.3", None, "refused"),
        ("2130706433", None, "refused"),
        ("0x7f.1", None, "refused"),
        ("127.1", None, "refused"),
        ("", None, "refused"),
    ] {
        let found = told(authority, scheme).replace("[::ffff:10.1.2.3]", "::ffff:10.1.2.3");
        assert_eq!(found, expected, "{authority}");
    }
    assert!(Policy::default().destination("api.example.com", None).is_err(), "nothing by default");
}

#[test]
fn a_recording_proxy_reaches_all_but_what_is_dangerous() {
    let open = Policy::anywhere(Vec::new(), vec!["127.0.0.1:4143".parse().unwrap()]);
    assert!(open.destination("anything.example:81", None).is_ok());
    for (addr, expected) in [
        ("127.0.0.1:80", "ok"),
        ("10.0.0.1:80", "ok"),
        ("8.8.8.8:80", "ok"),
        ("127.0.0.1:4143", "own"),
        ("169.254.169.254:80", "address"),
        ("[fe80::1]:80", "address"),
        ("[fd00:ec2::254]:80", "address"),
        ("0.0.0.0:80", "never"),
    ] {
        assert_eq!(told(&open.check("h", addr.parse().unwrap())), expected, "{addr}");
    }
}

#[test]
fn rules_that_mean_nothing_are_refused() {
    for text in [
        "",
        "*",
        "*example.com",
        "ftp://a",
        "a b",
        "10.0.0.0/33",
        "::/129",
        "a:b",
        "a:70000",
        "https://",
        "*.",
        "a/b",
    ] {
        assert!(text.parse::<Rule>().is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(rule in ".{0,40}", host in ".{0,40}", bits in proptest::prelude::any::<u128>()) {
        let rules = rule.parse::<Rule>().into_iter().collect();
        let policy = Policy::of(rules, Vec::new());
        drop(policy.destination(&host, None));
        drop(policy.check(&host, SocketAddr::new(Ipv6Addr::from_bits(bits).into(), 1)));
    }

    #[test]
    fn what_is_not_public_is_never_reached_by_name(low in proptest::prelude::any::<u32>()) {
        let policy = policy(&["a.example", "0.0.0.0/0", "::/0"]);
        let v4 = Ipv4Addr::from_bits(low);
        let open = policy.check("a.example", SocketAddr::new(v4.into(), 80)).is_ok();
        proptest::prop_assert!(!open || !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_documentation()));
        // However an address is wrapped, it is the same address.
        for wrapped in [v4.to_ipv6_mapped(), Ipv6Addr::from_bits((0x0064_ff9b << 96) | u128::from(low)), Ipv6Addr::from_bits((0x2002 << 112) | (u128::from(low) << 80))] {
            let wrapped = SocketAddr::new(wrapped.into(), 80);
            proptest::prop_assert_eq!(policy.check("a.example", wrapped).is_ok(), open);
        }
    }
}
