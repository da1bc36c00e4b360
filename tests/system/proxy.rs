//! The data port as a forward proxy, as clients use one by their environment, and ports that are mapped to hosts.

use harness::client::Client;

use crate::tls::{JWKS, authority, curl, dev, python, told};

#[tokio::test]
async fn curl_finds_the_recorded_hosts_through_the_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let mut dev = dev(&["--tls-ca", &ca]);
    let proxy = format!("http://{}", dev.address("data").await);
    let trusted = format!("{ca}/tls.crt");
    let environment =
        [("http_proxy", &*proxy), ("https_proxy", &*proxy), ("CURL_CA_BUNDLE", &*trusted)];
    let secure = format!("https://auth.example.com{JWKS}");
    let plain = format!("http://auth.example.com{JWKS}");
    for (arguments, expected) in [
        (&[&*secure][..], "200 2"),
        (&[&secure, "--http1.1"], "200 1.1"),
        (&[&plain], "200 1.1"),
        // A tunnel for plain HTTP.
        (&[&plain, "--proxytunnel"], "200 1.1"),
        (&[&plain, "--proxytunnel", "--http2-prior-knowledge"], "200 2"),
        (&[&secure, "--proxy-user", "me:secret"], "200 2"),
    ] {
        let (body, last) = told(&curl(arguments, &environment));
        assert_eq!(last, expected, "{arguments:?}: {body}");
        assert!(body.contains("\"keys\""), "{body}");
    }
    // The proxy itself may be reached by TLS.
    let secured = proxy.replace("http:", "https:");
    let arguments = [&*secure, "--proxy", &secured, "--proxy-cacert", &trusted];
    assert_eq!(told(&curl(&arguments, &environment)).1, "200 2");
    // The host counts: the other one has no key set.
    let other = told(&curl(&[&format!("https://api.example.com{JWKS}")], &environment));
    assert_eq!(other.1, "404 2", "{}", other.0);
    assert!(!other.0.contains("secret"), "what is meant for the proxy is in no report");
}

#[tokio::test]
async fn requests_goes_through_the_proxy_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let mut dev = dev(&["--tls-ca", &ca]);
    let proxy = format!("http://{}", dev.address("data").await);
    let trusted = format!("{ca}/tls.crt");
    let script = format!(
        "import requests\nfor s in ('http', 'https'):\n  r = requests.get(s + '://auth.example.com{JWKS}')\n  print(r.status_code, len(r.json()['keys']))"
    );
    let environment =
        [("http_proxy", &*proxy), ("https_proxy", &*proxy), ("REQUESTS_CA_BUNDLE", &*trusted)];
    if let Some(text) = python("requests", &script, &environment) {
        assert_eq!(text, "200 1\n200 1\n");
    }
}

#[tokio::test]
async fn it_may_be_switched_off() {
    let mut dev = dev(&["--forward-proxy", "off"]);
    let proxy = format!("http://{}", dev.address("data").await);
    let refused = curl(&["https://auth.example.com/"], &[("https_proxy", &proxy)]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("501"), "{refused:?}");
}

#[tokio::test]
async fn ports_are_mapped_to_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let maps = ["--map", "0=auth.example.com:443", "--map", "0=nobody.example.com"];
    let mut dev = dev(&[&maps[..], &["--tls-ca", &ca]].concat());
    let address = dev.address("auth.example.com:443").await;
    let trusted = format!("{ca}/tls.crt");
    for url in
        [format!("http://{address}{JWKS}"), format!("https://localhost:{}{JWKS}", address.port())]
    {
        // Whatever host is named, also one that was recorded.
        for host in ["x", "api.example.com"] {
            let header = format!("Host: {host}");
            let (body, last) = told(&curl(&["--cacert", &trusted, &url, "-H", &header], &[]));
            assert!(last.starts_with("200"), "{last} {body}");
        }
    }
    let admin = Client::new(dev.address("admin").await);
    let status = admin.get("/status").await.json();
    let maps = status["transport"]["maps"].as_array().unwrap();
    let shown: Vec<_> = maps
        .iter()
        .map(|map| (map["host"].as_str().unwrap(), map["recorded"].as_bool().unwrap()))
        .collect();
    assert_eq!(shown, [("auth.example.com:443", true), ("nobody.example.com", false)], "{status}");
}
