//! What the fuzz targets do. Each takes arbitrary bytes through one parser, and what was parsed through the code that uses it; each must
//! end soon, within bounds, and without a panic. Where a parser has a writer, what was written is read again.

mod connection;
mod live;

use std::sync::{Arc, LazyLock};

use countersign_engine::{
    compile::compile,
    dlp::{DlpConfig, RedactionKey, Redactor, Tally, strip::Stripper},
    formats::{
        FileReader, Sink,
        write::{Target, Writer},
    },
    jwt::{
        KeySource, TokenSlot,
        key::{KeyRing, SecretRef, SigningKey},
    },
    lineage::Analyzer,
    preview::preview,
    request::Request,
    serving::Serving,
    snapshot::{
        Direction, Header, HttpRequest, HttpResponse, RrPair, Serve, encoded::Encoded, wire,
    },
    test_config::TestConfig,
    transform::{PairFilter, Template},
};

pub use connection::connection;
pub use live::{request, trusted};

static STANDARD: LazyLock<TestConfig> = LazyLock::new(|| {
    TestConfig::parse(TestConfig::STANDARD.as_bytes()).expect("the built-in test config is sound")
});
const NOW: i64 = 1_800_000_000_000_000_000;

/// Pairs of a file.
#[derive(Default)]
struct Pairs(Vec<RrPair>);

impl Sink for Pairs {
    fn pair(&mut self, pair: RrPair) {
        self.0.push(pair);
    }
    fn skipped(&mut self, _why: countersign_engine::diagnostic::Diagnostic) {}
    fn refused(&mut self, _why: countersign_engine::diagnostic::Diagnostic) {}
}

/// Reads a file in pieces of uneven size.
fn read(path: &str, data: &[u8]) -> Vec<RrPair> {
    let mut pairs = Pairs::default();
    let mut reader = FileReader::new(path, &mut pairs);
    let (head, tail) = data.split_at(data.len() / 3);
    reader.push(head);
    reader.push(tail);
    reader.finish();
    pairs.0
}

/// A recording of any format that its path tells; what was read is compiled and asked for.
pub fn recording(path: &str, data: &[u8]) {
    let pairs = read(path, data);
    for pair in pairs.iter().take(4) {
        ask(pair);
    }
}

/// RRPair JSON: what was read is written in each form and read again, the same unless the writer says what is lost.
pub fn rrpair_json(data: &[u8]) {
    for pair in read("a.jsonl", data).into_iter().take(4) {
        for (target, path) in [(Target::JsonLines, "b.jsonl"), (Target::Markdown, "b.md")] {
            let mut writer = Writer::new(target);
            let written = writer.pair(&pair);
            let (_, lost) = writer.finish();
            if lost.is_empty() {
                assert_eq!(read(path, &written.bytes), [pair.clone()], "{target:?}");
            }
        }
    }
}

fn ask(pair: &RrPair) {
    let Some(request) = pair.request.clone() else { return };
    let (compiled, _) = compile(vec![pair.clone()], &Template::default(), &STANDARD, Serve::All);
    let serving = Serving::new(Arc::new(compiled), &KeyRing::default());
    let mut headers = http::HeaderMap::new();
    for Header { name, value } in &request.headers {
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let live = Request {
        method: &request.method,
        host: &request.host,
        path: &request.path,
        query: &request.query,
        headers: &headers,
        body: &request.body,
        ..Request::default()
    };
    let _ = serving.answer(&live, NOW);
    let _ = serving.explain(&live, NOW);
}

/// A pair that chains have something to work on.
fn pair(body: &[u8]) -> RrPair {
    let headers = vec![
        Header { name: "Content-Type".into(), value: "application/json".into() },
        Header { name: "Authorization".into(), value: "Basic YW5uOnNlY3JldA==".into() },
        Header { name: "Cookie".into(), value: "sid=1; t=a.b.c".into() },
    ];
    RrPair {
        ts: Some(1_700_000_000_000_000_000),
        direction: Direction::Out,
        request: Some(HttpRequest {
            method: "POST".into(),
            path: "/a/b".into(),
            query: "q=1&q=2".into(),
            host: "api:80".into(),
            headers: headers.clone(),
            body: body.to_vec().into(),
            ..HttpRequest::default()
        }),
        response: HttpResponse {
            status: 200,
            headers,
            body: body.to_vec().into(),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

/// A template, and a body behind a zero byte that its chains run on.
pub fn template(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (json, body) = data.split_at(at);
    let (template, _) = Template::parse(json);
    let _ = (template.required(), template.required_secrets());
    let pair = pair(body.get(1..).unwrap_or_default());
    let _ = preview(&template, &pair, NOW);
    let (compiled, _) = compile(vec![pair], &template, &STANDARD, Serve::All);
    drop(compiled);
}

/// The steps that take a path, which the first byte chooses among, with a document behind a zero byte.
pub fn path(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (path, body) = data.split_at(at);
    let Some((which, path)) = path.split_first() else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let quoted =
        path.replace('\\', "\\\\").replace('"', "\\\"").replace(|c: char| c.is_control(), "");
    let pair = pair(body.get(1..).unwrap_or_default());
    let kinds = ["json_path", "json_delete", "xml_path", "regex", "constant"];
    if let Some(kind) = kinds.get(usize::from(which % 5)) {
        let name = match *kind {
            "regex" => "pattern",
            "constant" => "new",
            _ => "path",
        };
        let json = format!(
            r#"{{"id":"t","responder":[{{"extractor":{{"type":"res_body"}},"transforms":[{{"type":"{kind}","config":{{"{name}":"{quoted}"}}}},{{"type":"replace","config":{{"old":"a","new":"bb"}}}}]}}]}}"#
        );
        let (template, _) = Template::parse(json.as_bytes());
        let _ = preview(&template, &pair, NOW);
    }
}

/// A filter: a query or JSON.
pub fn filter(data: &[u8]) {
    let pair = pair(br#"{"a":{"b":1}}"#);
    if let Ok(text) = std::str::from_utf8(data)
        && let (Some(filter), _) = PairFilter::parse_query(text)
    {
        let selects = filter.selects(&pair);
        let written = filter.to_string();
        let (again, _) = PairFilter::parse_query(&written);
        let again = again.map(|again| again.selects(&pair));
        assert_eq!(again, Some(selects), "{written} means the same");
    }
    if let (Some(filter), _) = PairFilter::parse_json(data) {
        let _ = filter.selects(&pair);
    }
}

/// A token under a simple config; what was signed is a token again.
pub fn jwt(data: &[u8]) {
    static SIGNS: LazyLock<Template> = LazyLock::new(|| {
        let json = br#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"jwt_resign","config":{"key":"a secret of at least thirty-two bytes","claims":"role=x"}}]}]}"#;
        Template::parse(json).0
    });
    let _ = preview(&SIGNS, &pair(data), NOW);
    let config = std::collections::BTreeMap::from([
        ("secretpath".to_owned(), "a/b".to_owned()),
        ("expiresin".to_owned(), "60".to_owned()),
    ]);
    let mut found = countersign_engine::diagnostic::Diagnostics::default();
    let Some(config) = countersign_engine::jwt::ResignConfig::parse(&config, "c", &mut found)
    else {
        return;
    };
    let config = Arc::new(config);
    let Ok(slot) = TokenSlot::new(data, &config, None) else { return };
    let Ok(key) = SigningKey::parse(
        b"a secret of at least sixty-four bytes, which is enough for each of them.",
    ) else {
        return;
    };
    let mut token = Vec::new();
    if slot.render(1_800_000_000, &key, &mut token).is_ok() {
        assert!(TokenSlot::new(&token, &config, None).is_ok(), "a signed token is a token");
    }
    let _ = matches!(slot.secret(), KeySource::Inline(_));
}

/// A body of gRPC: recorded and asked for, edited by a chain, and listened to while it comes.
pub fn grpc(data: &[u8]) {
    let mut pair = pair(data);
    let call = || vec![Header { name: "Content-Type".into(), value: "application/grpc".into() }];
    if let Some(request) = &mut pair.request {
        request.headers = call();
    }
    pair.response.headers = call();
    ask(&pair);
    static EDITS: LazyLock<Template> = LazyLock::new(|| {
        let json = br#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"1:LEN"}},{"type":"replace","config":{"old":"a","new":"bb"}}]}]}"#;
        Template::parse(json).0
    });
    let (compiled, _) = compile(vec![pair], &EDITS, &STANDARD, Serve::All);
    let serving = Serving::new(Arc::new(compiled), &KeyRing::default());
    let grpc = http::HeaderValue::from_static("application/grpc");
    let headers = http::HeaderMap::from_iter([(http::header::CONTENT_TYPE, grpc)]);
    let mut line = None;
    for (end, ended) in
        [(0, false), (data.len() / 2, false), (data.len(), false), (data.len(), true)]
    {
        let request = Request {
            method: "POST",
            host: "api",
            path: "/a/b",
            query: "q=1&q=2",
            headers: &headers,
            body: data.get(..end).unwrap_or_default(),
            ..Request::default()
        };
        line = serving.listen(&request, ended, line, NOW);
    }
    if let Some(line) = line {
        assert!(line.due(line.requests) == line.answers.len(), "at the end everything is due");
    }
}

/// A key file.
pub fn key(data: &[u8]) {
    if let Ok(key) = SigningKey::parse(data) {
        let _ = (key.kind(), key.jwk(), key.thumbprint());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = SecretRef::parse(text);
    }
}

/// A chunk of pairs, as it comes from the network or a disk, alone and with the ordinals that lie beside it: as many bytes as the last one says.
pub fn chunk(data: &[u8]) {
    let bytes = bytes::Bytes::copy_from_slice(data);
    let _ = wire::decode_chunk_bytes(bytes.clone());
    let beside = data.last().map_or(0, |last| usize::from(*last).min(data.len() - 1));
    let chunk = bytes.slice(..data.len().saturating_sub(1 + beside));
    let _ = Encoded::open([chunk], Some(&data[data.len() - beside..]));
}

/// A redaction config and a body behind a zero byte.
pub fn dlp(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (json, body) = data.split_at(at);
    let (config, _) = DlpConfig::parse(json);
    static BUILT_IN: LazyLock<Redactor> = LazyLock::new(Redactor::default);
    let own = Redactor::new(config, RedactionKey::from_seed(b"fuzz"));
    for redactor in [&own, &*BUILT_IN] {
        let mut tally = Tally::new(redactor.config());
        let mut pair = pair(body.get(1..).unwrap_or_default());
        let mut again = pair.clone();
        for pair in [&mut pair, &mut again] {
            redactor.redact_pair(pair, &mut tally);
        }
        assert_eq!(pair, again, "the same value gets the same mark");
        Stripper::all().strip(&mut pair);
    }
}

/// A test config.
pub fn test_config(data: &[u8]) {
    let _ = TestConfig::parse(data);
}

/// A rule of chaos as text, and as a fault; what was read befalls an answer.
pub fn chaos(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace(|c: char| c.is_control(), " ");
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    for list in ["rules", "faults"] {
        let json = format!(r#"{{"id":"c","chaos":{{"{list}":["{text}"]}}}}"#);
        let Ok(config) = TestConfig::parse(json.as_bytes()) else { continue };
        let pair = pair(b"{\"a\":1}");
        let asked = pair.request.clone().expect("it has a request");
        let (compiled, _) = compile(vec![pair], &Template::default(), &config, Serve::All);
        let serving = Serving::new(Arc::new(compiled), &KeyRing::default()).started_at(NOW);
        let live = Request {
            method: &asked.method,
            host: &asked.host,
            path: &asked.path,
            query: &asked.query,
            body: &asked.body,
            ..Request::default()
        };
        for _ in 0..3 {
            let _ = serving.answer(&live, NOW);
        }
    }
}

/// A body in which tokens are looked for.
pub fn lineage(data: &[u8]) {
    let mut analyzer = Analyzer::default();
    let mut pair = pair(data);
    if let Some(request) = &mut pair.request {
        request.query = String::from_utf8_lossy(data).into_owned();
    }
    analyzer.push(&pair);
    let _ = analyzer.finish();
}
