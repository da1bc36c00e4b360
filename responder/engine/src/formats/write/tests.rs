//! Round trips: what is written is read again, for arbitrary pairs and for the recordings at hand.

mod recordings;

use bytes::Bytes;
use proptest::{collection, option, prelude::*, sample::select};

use super::*;
use crate::{
    diagnostic::Severity,
    formats::{FileReader, Sink},
    snapshot::{Direction, Header, HttpRequest, HttpResponse},
};

#[derive(Debug, Default)]
struct Seen {
    pairs: Vec<RrPair>,
    left: Vec<Diagnostic>,
}

impl Sink for Seen {
    fn pair(&mut self, pair: RrPair) {
        self.pairs.push(pair);
    }
    fn skipped(&mut self, why: Diagnostic) {
        self.left.push(why);
    }
    fn refused(&mut self, why: Diagnostic) {
        self.left.push(why);
    }
}

fn read(path: &str, bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut reader = FileReader::new(path, &mut seen);
    reader.push(bytes);
    reader.finish();
    seen
}

/// Writes a pair and reads it again; what was lost beside it.
fn round_trip(pair: &RrPair, target: Target) -> (RrPair, Vec<Diagnostic>) {
    let mut writer = Writer::new(target);
    let piece = writer.pair(pair);
    let name = if piece.path.is_empty() { "raw.jsonl" } else { &piece.path };
    let mut seen = read(name, &piece.bytes);
    let text = String::from_utf8_lossy(&piece.bytes).into_owned();
    assert_eq!((seen.pairs.len(), seen.left.len()), (1, 0), "{:?}\n{text}", seen.left);
    (seen.pairs.remove(0), writer.finish().1)
}

fn sorted(mut pair: RrPair) -> RrPair {
    if let Some(request) = &mut pair.request {
        request.headers.sort_by(|a, b| a.name.cmp(&b.name));
    }
    pair.response.headers.sort_by(|a, b| a.name.cmp(&b.name));
    pair
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9._-]{1,8}", ".{0,12}"]
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let name = prop_oneof![
        select(vec![
            "Content-Type",
            "content-type",
            "Content-Length",
            "Host",
            "Date",
            "Set-Cookie",
            "Vary",
            "Trailer",
            "X-Sum",
        ])
        .prop_map(str::to_owned),
        "[A-Za-z][A-Za-z0-9-]{0,6}",
    ];
    let value = prop_oneof![
        select(vec![
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "X-Sum",
            "text/html"
        ])
        .prop_map(str::to_owned),
        "[ -~\\t]{0,20}",
        "[ -~é😀]{0,8}",
    ];
    let field = (name, value).prop_map(|(name, value)| Header { name, value: value.into() });
    collection::vec(field, 0..6)
}

fn body() -> impl Strategy<Value = Bytes> {
    let object = || collection::btree_map(".{0,6}", ".{0,6}", 0..4);
    prop_oneof![
        Just(Bytes::new()),
        collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
        object().prop_map(|map| serde_json::to_string(&map).unwrap().into()),
        object().prop_map(|map| serde_json::to_string_pretty(&map).unwrap().into()),
        ".{0,20}".prop_map(Bytes::from),
        "([a-z]=[a-z+%0-9]{0,3}&?){1,4}".prop_map(Bytes::from),
        "(```|\n|### RESPONSE ###|### INTERNAL ###|json: \\{\\}|\r| ){0,8}".prop_map(Bytes::from),
    ]
}

fn request() -> impl Strategy<Value = HttpRequest> {
    let path = prop_oneof!["/[ -~&&[^?]]{0,12}", Just("*".to_owned()), Just("/a://b".to_owned())];
    let host = prop_oneof!["[a-z]{1,5}(\\.test)?(:[0-9]{2,4})?", "[ -~]{1,6}"];
    let version = select(vec!["1.0", "1.1", "2.0"]);
    (select(vec!["GET", "POST", "PURGE"]), path, "[ -~]{0,10}", version, host, headers(), body())
        .prop_map(|(method, path, query, version, host, headers, body)| HttpRequest {
            method: method.to_owned(),
            path,
            query,
            version: version.to_owned(),
            host,
            headers,
            body,
        })
}

fn response() -> impl Strategy<Value = HttpResponse> {
    let message =
        prop_oneof![Just(String::new()), Just("200 OK".to_owned()), "[ -~]{0,10}", ".{0,5}"];
    (100_u16..=999, message, headers(), body()).prop_map(
        |(status, status_message, headers, body)| HttpResponse {
            status,
            status_message,
            headers,
            body,
        },
    )
}

/// Extra members, as reading leaves them: sorted, `http` last, nothing empty.
fn extra() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just(r#"{"isTls":true,"zzz":[1.50,"\u003c"]}"#.to_owned()),
        Just(r#"{"netinfo":{"id":"1"},"http":{"sig":{"instance":2},"req":{"cookies":[]},"res":{"trailers":{"X-Sum":["7"]}}}}"#.to_owned()),
        Just(r#"{"resource":"r","http":{"res":{"contentType":"text/plain"}}}"#.to_owned()),
    ]
}

prop_compose! {
    fn pair()(
        uuid in option::of(any::<[u8; 16]>()),
        ts in option::of(any::<i64>()),
        inbound: bool,
        duration in prop_oneof![Just(0), Just(3_000_000), any::<u64>(), 0_u64..10_000_000],
        https: bool,
        texts in collection::vec(word(), 9),
        tags in collection::btree_map(prop_oneof!["[a-z]{1,5}", ".{0,5}"], word(), 0..4),
        upstream in prop_oneof![Just(String::new()), "[a-z]{1,5}(\\.test)?:[0-9]{2,4}", ".{0,6}"],
        request in option::weighted(0.95, request()),
        response in response(),
        mut signature in collection::btree_map(prop_oneof!["http:[a-z]{1,4}", ".{0,5}"], collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from), 0..4),
        none in any::<bool>(),
        extra_json in extra(),
    ) -> RrPair {
        if request.is_none() || none {
            signature.insert("http:url".to_owned(), Bytes::from_static(b"-NONE-"));
        }
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap();
        RrPair {
            uuid,
            ts,
            direction: if inbound { Direction::In } else { Direction::Out },
            duration,
            l7protocol: if https { "https" } else { "http" }.to_owned(),
            service: text(),
            cluster: text(),
            namespace: text(),
            tech: text(),
            network_address: upstream,
            command: text(),
            location: text(),
            status: text(),
            tags,
            session: text(),
            request,
            response,
            signature,
            extra_json,
            ordinal: 0,
            stub: None,
        }
    }
}

/// A pair as a reader could have made it: what no recording leads to is mended.
fn readable(pair: &RrPair) -> Option<RrPair> {
    let line = jsonl::line(pair, jsonl::Extent::ALL);
    read("a.jsonl", line.as_bytes()).pairs.pop()
}

/// What a HAR holds of a pair.
fn exchange(pair: &RrPair) -> RrPair {
    let mut response = pair.response.clone();
    response.body = Bytes::from(crate::body::unfolded(&response.body).into_owned());
    let reason = response.status_message.clone();
    let code = response.status.to_string();
    let reason = reason.strip_prefix(&code).unwrap_or(&reason).trim();
    response.status_message =
        if reason.is_empty() { String::new() } else { format!("{code} {reason}") };
    RrPair {
        ts: Some(pair.ts.unwrap_or_default()),
        duration: pair.duration,
        l7protocol: pair.l7protocol.clone(),
        request: pair.request.clone(),
        response,
        ..RrPair::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn json_lines_hold_every_pair(pair in pair()) {
        let pair = readable(&pair);
        prop_assume!(pair.is_some());
        let pair = pair.unwrap();
        let (back, found) = round_trip(&pair, Target::JsonLines);
        prop_assert_eq!(&back, &pair);
        prop_assert_eq!(found, []);
    }

    #[test]
    fn what_json_lines_change_is_told(pair in pair()) {
        prop_assume!(readable(&pair).is_some());
        let (back, found) = round_trip(&pair, Target::JsonLines);
        let told = found.iter().any(|finding| finding.severity == Severity::Warning);
        prop_assert_eq!(sorted(back) != sorted(pair), told);
    }

    #[test]
    fn a_har_holds_every_exchange(pair in pair()) {
        let pair = readable(&pair);
        prop_assume!(pair.as_ref().is_some_and(|pair| pair.request.is_some()));
        let pair = pair.unwrap();
        let mut writer = Writer::new(Target::Har);
        let mut text = writer.pair(&pair).bytes;
        let (end, found) = writer.finish();
        text.extend(end.bytes);
        serde_json::from_slice::<serde::de::IgnoredAny>(&text).unwrap();
        let odd = |finding: &Diagnostic| finding.severity == Severity::Warning && finding.path != "direction";
        if found.iter().any(odd) {
            // A host or a target that no URL can hold, for example.
            return Ok(());
        }
        let back = read("a.har", &text).pairs.pop().unwrap();
        prop_assert_eq!(exchange(&back), exchange(&pair));
    }

    #[test]
    fn markdown_holds_every_pair(pair in pair()) {
        let pair = readable(&pair);
        prop_assume!(pair.is_some());
        let pair = pair.unwrap();
        let (back, found) = round_trip(&pair, Target::Markdown);
        prop_assert_eq!(&back, &pair);
        prop_assert_eq!(found, []);
    }
}

const MARKDOWN: &str = r#"### REQUEST ###
```
POST https://api.test:8443/login?next=/a HTTP/2.0
Accept: gzip;q=1.0\, deflate;q=0.6, x\\y
Content-Type: application/x-www-form-urlencoded
Host: api.test
```

```
{
  "grant_type": "password",
  "scope": "a b"
}
```

### RESPONSE ###
```
HTTP/2.0 201 Created
Content-Type: application/json
Trailer: X-Sum
X-Sum: 7
```

```
{
  "access_token": "t",
  "expires_in": 900
}
```

### SIGNATURE ###
```
hash is \xFFA
http:queryparams is -NONE-
http:url is /login
```

### METADATA ###
```
direction: IN
uuid: 00010203-0405-0607-0809-0a0b0c0d0e0f
ts: 2025-11-25T18:06:30.70356Z
duration: 222ms
elapsed: 222.5ms
tags: captureMode=proxy, sequence=14
```

### INTERNAL - DO NOT MODIFY ###
```
json: {"msgType":"rrpair","resource":"r","ts":"2025-11-25T18:06:30.703560Z","isTls":true,"l7protocol":"https","duration":222,"elapsed":"0.222500s","tags":{"captureMode":"proxy","proxyLocation":"in","sequence":"14"},"uuid":"AAECAwQFBgcICQoLDA0ODw==","direction":"IN","service":"s","network_address":"api.test:8443","http":{"req":{"url":"/login","uri":"/login?next=/a","version":"2.0","method":"POST","host":"api.test"},"res":{"statusCode":201,"statusMessage":"201 Created","trailers":{"X-Sum":["7"]}}},"signature":{"hash":"/0E=","http:queryparams":"","http:url":"L2xvZ2lu"}}
```
"#;

#[test]
fn a_markdown_file_comes_back_as_it_was() {
    let pair = read("a.md", MARKDOWN.as_bytes()).pairs.pop().unwrap();
    let mut writer = Writer::new(Target::Markdown);
    let piece = writer.pair(&pair);
    assert_eq!(String::from_utf8(piece.bytes).unwrap(), MARKDOWN);
    assert_eq!(piece.path, "localhost/2025-11-25_18-06-30.703560000Z.md");
    assert_eq!(writer.finish().1, []);
}

/// A pair whose visible text does not lead back by itself.
fn awkward() -> RrPair {
    let mut pair = read("a.md", MARKDOWN.as_bytes()).pairs.pop().unwrap();
    let header = Header { name: "Content-Length".to_owned(), value: "9".into() };
    pair.response.headers.insert(0, header);
    pair.response.body = Bytes::from_static(b"{ \"a\" : 1.0, \"a\": 1e2 }\r\n");
    pair.request.as_mut().unwrap().body = Bytes::from_static(b"\x1f\x8b\x08\xff");
    pair
}

#[test]
fn what_cannot_be_shown_stays_in_the_internal_section() {
    let pair = awkward();
    let text = String::from_utf8(Writer::new(Target::Markdown).pair(&pair).bytes).unwrap();
    assert!(text.contains("```\n{\n  \"a\": 1.0,\n  \"a\": 1e2\n}\n```"), "{text}");
    assert!(text.contains("Host: api.test\n```\n\n```\n```\n\n### RESPONSE"), "{text}");
    assert!(
        text.contains("\"Content-Length\":[\"9\"]") && text.contains("\"bodyBase64\":\"H4sI/w==\"")
    );
    assert_eq!(round_trip(&pair, Target::Markdown), (pair, vec![]));
}

#[test]
fn an_edit_of_the_text_wins_over_the_internal_section() {
    let text = String::from_utf8(Writer::new(Target::Markdown).pair(&awkward()).bytes).unwrap();
    let edited = text
        .replace("\"a\": 1e2", "\"b\": 2")
        .replace("201 Created\n", "202 Accepted\n")
        .replace("/login?next=/a HTTP", "/other HTTP")
        .replace("sequence=14\n", "sequence=15\n");
    let pair = read("a.md", edited.as_bytes()).pairs.pop().unwrap();
    assert_eq!(pair.response.body, "{\"a\":1.0,\"b\":2}");
    assert_eq!(
        (pair.response.status, pair.response.status_message.as_str()),
        (202, "202 Accepted")
    );
    assert_eq!(pair.request.unwrap().path, "/other");
    assert_eq!(pair.tags["sequence"], "15");
}

#[test]
fn stubs_come_back_from_both_forms() {
    let mapping = r#"{"name":"n","priority":2,"scenarioName":"s","newScenarioState":"2","request":{"method":"GET","urlPathPattern":"/a/.*","headers":{"X":{"contains":"1"}}},"response":{"body":"hi"}}"#;
    let stub = read("m.json", mapping.as_bytes()).pairs.pop().unwrap();
    assert!(stub.stub.is_some());
    for target in [Target::JsonLines, Target::Markdown] {
        assert_eq!(round_trip(&stub, target), (stub.clone(), vec![]));
    }
    let foreign = r#"{"msgType":"rrpair","http":{"req":{"method":"GET","url":"/"},"res":{"statusCode":200}},"stub":{"a":1}}"#;
    let pair = read("a.jsonl", foreign.as_bytes()).pairs.pop().unwrap();
    assert_eq!((pair.stub, pair.extra_json.as_str()), (None, r#"{"stub":{"a":1}}"#));
}

#[test]
fn a_header_value_that_is_no_text_is_told() {
    let mut pair = awkward();
    pair.response
        .headers
        .push(Header { name: "X-Z".to_owned(), value: Bytes::from_static(b"\xe9") });
    for target in [Target::JsonLines, Target::Markdown] {
        let (back, found) = round_trip(&pair, target);
        let found: Vec<_> = found.iter().map(|d| (d.code, d.path.as_str(), d.count)).collect();
        assert_eq!(found, [(CODE, "http.res.headers", 1)], "{target:?}");
        assert_eq!(back.response.body, pair.response.body);
    }
}

#[test]
fn a_har_is_a_har() {
    let pair = read("a.md", MARKDOWN.as_bytes()).pairs.pop().unwrap();
    let mut writer = Writer::new(Target::Har);
    let mut text = String::from_utf8(writer.pair(&pair).bytes).unwrap();
    text.push_str(&String::from_utf8(writer.finish().0.bytes).unwrap());
    let (begin, entry) = text.split_once("\n").unwrap();
    assert!(
        begin.starts_with(r#"{"log":{"version":"1.2","creator":{"name":"countersign","version":""#)
    );
    let expected = r#"{"startedDateTime":"2025-11-25T18:06:30.70356Z","time":222.5,"request":{"method":"POST","url":"https://api.test/login?next=/a","httpVersion":"HTTP/2.0","cookies":[],"headers":[{"name":"Accept","value":"gzip;q=1.0, deflate;q=0.6"},{"name":"Accept","value":"x\\y"},{"name":"Content-Type","value":"application/x-www-form-urlencoded"},{"name":"Host","value":"api.test"}],"queryString":[{"name":"next","value":"/a"}],"postData":{"mimeType":"application/x-www-form-urlencoded","text":"grant_type=password&scope=a+b"},"headersSize":-1,"bodySize":29},"response":{"status":201,"statusText":"Created","httpVersion":"HTTP/2.0","cookies":[],"headers":[{"name":"Content-Type","value":"application/json"},{"name":"Trailer","value":"X-Sum"}],"content":{"size":37,"mimeType":"application/json","text":"{\"access_token\":\"t\",\"expires_in\":900}"},"redirectURL":"","headersSize":-1,"bodySize":37},"cache":{},"timings":{"send":0,"wait":222.5,"receive":0}}
]}}
"#;
    assert_eq!(entry, expected);
    let mut empty = String::from_utf8(Writer::new(Target::Har).finish().0.bytes).unwrap();
    empty.retain(|c| c != '\n');
    assert!(empty.ends_with("\"entries\":[]}}"), "{empty}");
}
