//! Recordings: real ones read with our readers, and small ones of our own.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_engine::{
    diagnostic::Diagnostic,
    formats::{FileReader, Sink, is_recording},
    snapshot::RrPair,
};
use serde_json::{Value, json};

/// What a recording holds.
#[derive(Debug, Default)]
pub struct Recording {
    /// Its pairs in recorded order.
    pub pairs: Vec<RrPair>,
    /// What was refused.
    pub refused: Vec<Diagnostic>,
}

impl Sink for Recording {
    fn pair(&mut self, pair: RrPair) {
        self.pairs.push(pair);
    }

    fn skipped(&mut self, _why: Diagnostic) {}

    fn refused(&mut self, why: Diagnostic) {
        self.refused.push(why);
    }
}

/// The chain of a template that re-signs the `access_token` of `GET /ALG` with the key of that name in the secret `keys`.
#[must_use]
pub fn resign_chain(alg: &str) -> Value {
    json!({
        "filters": {"filters": [{"include": true, "detectedLocation": format!("/{alg}")}]},
        "extractor": {"type": "res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("${{{{secret:keys/{alg}}}}}")}}
        ]
    })
}

/// Reads a folder.
#[must_use]
pub fn read(folder: &Path) -> Recording {
    let mut recording = Recording::default();
    for path in files(folder) {
        let name = path.to_string_lossy();
        if is_recording(&name) {
            let mut reader = FileReader::new(&name, &mut recording);
            reader.push(&fs::read(&path).unwrap());
            reader.finish();
        }
    }
    recording.pairs.sort_by_key(|pair| pair.ts);
    recording
}

/// Reads a file, however large, a piece at a time.
#[must_use]
pub fn read_file(path: &Path) -> Recording {
    let mut recording = Recording::default();
    let mut reader = FileReader::new(&path.to_string_lossy(), &mut recording);
    let mut file = fs::File::open(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).unwrap() {
            0 => break,
            read => reader.push(&piece[..read]),
        }
    }
    reader.finish();
    recording
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A token as somebody else signed it long ago; its JWS signature is of no account.
#[must_use]
pub fn old_token(alg: &str, claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(&json!({"alg": alg, "typ": "JWT"}).to_string()),
        part(&claims.to_string()),
        part("an old JWS signature")
    )
}

/// One recorded pair as a line of JSON: a request without body, and a response of JSON.
#[must_use]
pub fn line(method: &str, path: &str, response: &Value) -> String {
    json!({
        "msgType": "rrpair", "ts": "2024-01-02T03:04:05.678901234Z", "l7protocol": "http", "direction": "OUT", "network_address": "api.example:80",
        "command": method, "location": path.split('?').next(), "status": "200",
        "http": {
            "req": {"url": path.split('?').next(), "uri": path, "version": "1.1", "method": method, "host": "api.example", "headers": {"Host": ["api.example"]}},
            "res": {"statusCode": 200, "contentType": "application/json", "headers": {"Content-Type": ["application/json"]}, "bodyBase64": STANDARD.encode(response.to_string())}
        }
    })
    .to_string()
}

/// One recorded call of gRPC as a line of JSON, with its bodies as frames. `metadata` and `end` are JSON objects of lists.
#[must_use]
pub fn call(path: &str, asked: &[u8], answered: &[u8], metadata: &Value, end: &Value) -> String {
    let fields = |more: &Value| {
        let mut fields = more.as_object().cloned().unwrap_or_default();
        fields.insert("Content-Type".to_owned(), json!(["application/grpc"]));
        fields
    };
    json!({
        "msgType": "rrpair", "ts": "2024-01-02T03:04:05.678901234Z", "l7protocol": "http", "direction": "OUT", "network_address": "api.example:50051",
        "command": "POST", "location": path, "status": "200",
        "http": {
            "req": {"url": path, "uri": path, "version": "2.0", "method": "POST", "host": "api.example:50051",
                "headers": fields(&metadata["asked"]), "bodyBase64": STANDARD.encode(asked)},
            "res": {"statusCode": 200, "contentType": "application/grpc", "headers": fields(&metadata["answered"]),
                "trailers": end, "bodyBase64": STANDARD.encode(answered)}
        }
    })
    .to_string()
}

/// The seed's template: re-signs `access_token` with the key of the secret `jwt-demo`.
#[must_use]
pub fn seed_template(id: &str, key: &str) -> String {
    json!({"id": id, "responder": [{
        "filters": {"filters": [{"include": true}]},
        "extractor": {"type": "http_res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("/home/speedscale/secret/jwt-demo/{key}")}}
        ]}]})
    .to_string()
}

/// A secret directory that holds one key of the secret `jwt-demo`.
#[must_use]
pub fn secret_dir(root: &Path, key: &str, content: &[u8]) -> PathBuf {
    let dir = root.join("secrets");
    fs::create_dir_all(dir.join("jwt-demo")).unwrap();
    fs::write(dir.join("jwt-demo").join(key), content).unwrap();
    dir
}
