//! The data port as a forward proxy, and ports that are mapped to hosts.

use super::{
    tls::{secure_plane, shake},
    *,
};

/// Two hosts with the same path, so that the answer tells which was meant.
fn hosts() -> Vec<RrPair> {
    ["api", "other"]
        .map(|host| {
            let mut pair = pair("/a", format!("recorded by {host}"));
            pair.request.as_mut().unwrap().host = host.to_owned();
            pair
        })
        .into()
}

fn proxy() -> (Node, tempfile::TempDir) {
    let (plane, dir) = secure_plane(Limits::default(), hosts(), |_, _| {});
    (Node::behind(plane, Door::default()), dir)
}

fn get(host: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// A tunnel to here.
async fn tunnel(node: &Node, target: &str) -> TcpStream {
    let mut stream = node.connect().await;
    let request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let text = read_until(&mut stream, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(!text.contains("content-length") && !text.contains("chunked"), "{text}");
    stream
}

#[tokio::test]
async fn a_target_in_absolute_form_names_the_host() {
    let (node, _dir) = proxy();
    for host in ["api", "other"] {
        let text = node
            .exchange(&format!(
                "GET http://{host}:8080/a HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(text.ends_with(&format!("recorded by {host}")), "{text}");
    }
}

#[tokio::test]
async fn what_comes_through_a_tunnel_is_for_the_host_that_it_was_opened_to() {
    let (node, dir) = proxy();
    for host in ["api", "other"] {
        let mut plain = tunnel(&node, &format!("{host}:80")).await;
        plain.write_all(get("elsewhere").as_bytes()).await.unwrap();
        assert!(rest(plain).await.ends_with(&format!("recorded by {host}")));

        for alpn in [&["http/1.1"][..], &[]] {
            let stream = tunnel(&node, &format!("{host}:443")).await;
            let mut stream = shake(stream, dir.path(), host, alpn).await.unwrap();
            stream.write_all(get(host).as_bytes()).await.unwrap();
            assert!(rest(stream).await.ends_with(&format!("recorded by {host}")));
        }
    }
    assert!(node.metrics.render().unwrap().contains("tunnels_total 6"));
}

#[tokio::test]
async fn a_tunnel_may_be_idle_for_longer_than_a_head_may_take() {
    let limits = with(|limits| {
        limits.head = SHORT;
        limits.idle = 4 * SHORT;
    });
    let (plane, _dir) = secure_plane(limits, hosts(), |_, _| {});
    let node = Node::behind(plane, Door::default());
    let mut stream = tunnel(&node, "api:80").await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n").await.unwrap();
    read_until(&mut stream, "recorded by api").await;
    let idle_since = Instant::now();
    assert_eq!(rest(stream).await, "");
    assert!(idle_since.elapsed() >= 2 * SHORT, "{:?}", idle_since.elapsed());
}

#[tokio::test]
async fn the_first_bytes_of_a_tunnel_may_come_along_with_the_request_for_it() {
    let (node, _dir) = proxy();
    let request = format!("CONNECT api:80 HTTP/1.1\r\nHost: api:80\r\n\r\n{}", get("x"));
    let text = node.exchange(&request).await;
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    assert!(text.ends_with("recorded by api"), "{text}");
}

#[tokio::test]
async fn tunnels_that_cannot_be_served_are_refused_with_the_reason() {
    let (node, _dir) = proxy();
    for (request, status, why) in [
        ("CONNECT api HTTP/1.1\r\nHost: api\r\n\r\n", "400", "host and a port"),
        ("CONNECT user@api:1 HTTP/1.1\r\nHost: api\r\n\r\n", "400", "host and a port"),
        ("CONNECT *.api:1 HTTP/1.1\r\nHost: api\r\n\r\n", "400", "host and a port"),
        ("CONNECT api:0 HTTP/1.1\r\nHost: api\r\n\r\n", "400", "host and a port"),
        ("CONNECT http://api:1/ HTTP/1.1\r\nHost: api\r\n\r\n", "400", "host and a port"),
    ] {
        let text = node.exchange(request).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request:?} got {text}");
        assert!(text.contains(why) && text.contains("connection: close"), "{text}");
    }
    let mut stream = tunnel(&node, "api:80").await;
    stream.write_all(b"CONNECT api:80 HTTP/1.1\r\nHost: api:80\r\n\r\n").await.unwrap();
    let text = rest(stream).await;
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("within a tunnel"), "{text}");
    let mut stream = tunnel(&node, "api:5432").await;
    stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
    assert!(rest(stream).await.starts_with("HTTP/1.1 400"));
    // Who lets the other side speak first learns that nobody will.
    let silent = with(|limits| limits.detect = SHORT);
    let (plane, _dir) = secure_plane(silent, hosts(), |_, _| {});
    let node = Node::behind(plane, Door::default());
    assert_eq!(rest(tunnel(&node, "db:3306").await).await, "");
}

#[tokio::test]
async fn it_is_no_proxy_when_that_is_off() {
    let (mut plane, _dir) = secure_plane(Limits::default(), hosts(), |_, _| {});
    plane.forward_proxy = false;
    let node = Node::behind(plane, Door::default());
    let text = node.exchange("CONNECT api:443 HTTP/1.1\r\nHost: api:443\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 501") && text.contains("--forward-proxy"), "{text}");
}

#[tokio::test]
async fn a_mapped_port_is_for_its_host_whatever_requests_say() {
    let route = |host: &str| Route::to(&host.parse().unwrap()).unwrap();
    for host in ["api", "other"] {
        let (plane, dir) = secure_plane(Limits::default(), hosts(), |_, _| {});
        let door = Door { route: route(&format!("{host}:443")), tls_only: false };
        let node = Node::behind(plane, door);
        let text = node.exchange(&get("elsewhere")).await;
        assert!(text.ends_with(&format!("recorded by {host}")), "{text}");
        // By the name that the client knows it under, and without a name.
        for name in ["elsewhere", "localhost"] {
            let stream = node.connect().await;
            let mut stream = shake(stream, dir.path(), name, &[]).await.unwrap();
            stream.write_all(get(name).as_bytes()).await.unwrap();
            assert!(rest(stream).await.ends_with(&format!("recorded by {host}")));
        }
    }
}
