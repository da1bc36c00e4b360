//! What is driven, and what it is driven with: recorded pairs, and the chains of a template with their keys.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_engine::{
    diagnostic::Diagnostic,
    formats::{FileReader, Half, Joiner, Sink},
    jwt::{
        inline,
        key::{KeyEntry, KeyRing, SigningKey},
    },
    sending::Generator,
    snapshot::{RrPair, wire},
    transform::Template,
};
use countersign_load::recording::slim;
use countersign_responder::secrets::read_secret;

use crate::{
    command::snapshot::{self, export::read_pairs},
    connect::Client,
    failure::Failure,
    output::Output,
    recording,
};

/// Files are read in pieces of this size.
const PIECE: usize = 256 * 1024;
/// So many findings are told.
const MOST: usize = 20;

/// Takes what files hold.
#[derive(Default)]
struct Found {
    pairs: Vec<RrPair>,
    /// Nobody asks for more of a pair than what is sent and compared.
    slim: bool,
    skipped: u64,
    refused: Vec<Diagnostic>,
    joiner: Joiner,
}

impl Sink for Found {
    fn pair(&mut self, mut pair: RrPair) {
        pair.ordinal = u64::try_from(self.pairs.len()).unwrap_or(u64::MAX);
        if self.slim {
            slim(&mut pair);
        }
        self.pairs.push(pair);
    }

    fn skipped(&mut self, _why: Diagnostic) {
        self.skipped += 1;
    }

    fn refused(&mut self, why: Diagnostic) {
        self.refused.push(why);
    }

    fn half(&mut self, half: Half) {
        let mut joiner = std::mem::take(&mut self.joiner);
        joiner.join(half, self);
        self.joiner = joiner;
    }
}

/// Reads the pairs of files; `slim` leaves out of them what only filters ask for.
pub(super) fn files(
    recordings: &[PathBuf],
    slim: bool,
    out: &Output,
) -> Result<Vec<RrPair>, Failure> {
    let mut found = Found { slim, ..Found::default() };
    let mut piece = vec![0; PIECE];
    for recording::File { path, .. } in recording::walk(recordings)? {
        let mut file = File::open(&path).map_err(|source| Failure::read(&path, source))?;
        let name = path.to_string_lossy();
        let mut reader = FileReader::new(&name, &mut found);
        loop {
            let read = file.read(&mut piece).map_err(|source| Failure::read(&path, source))?;
            if read == 0 {
                break;
            }
            reader.push(piece.get(..read).unwrap_or_default());
        }
        reader.finish();
    }
    std::mem::take(&mut found.joiner).finish(&mut found);
    let findings: Vec<_> = found.refused.iter().take(MOST).map(wire::encode_diagnostic).collect();
    out.findings(&findings);
    if found.skipped > 0 {
        out.note(&format!(
            "{} entries were skipped, which hold no exchange of HTTP",
            found.skipped
        ));
    }
    Ok(found.pairs)
}

/// Reads the pairs of a stored snapshot, likewise.
pub(super) async fn snapshot(
    client: &Client,
    id: &str,
    slimmed: bool,
    out: &Output,
) -> Result<Vec<RrPair>, Failure> {
    let snapshot = snapshot::get(client, id).await?;
    let bar = out.counter("reading", snapshot.pair_count);
    let mut pairs = Vec::new();
    let doing = format!("read the snapshot {id}");
    let seen = |count| bar.inc(count);
    let take = |mut pair: RrPair| {
        pair.ordinal = u64::try_from(pairs.len()).unwrap_or(u64::MAX);
        if slimmed {
            slim(&mut pair);
        }
        pairs.push(pair);
        Ok(())
    };
    let read = read_pairs(client, &snapshot, &doing, seen, take).await;
    bar.finish_and_clear();
    read.map(|()| pairs)
}

/// The chains of a template that work on requests, with their keys.
pub(super) fn generator(
    named: &str,
    text: &str,
    secrets: Option<&Path>,
    out: &Output,
) -> Result<Generator, Failure> {
    let (template, found) = Template::parse(text.as_bytes());
    if found.has_errors() {
        return Err(Failure::Refused {
            what: format!("the template {named} cannot be used"),
            findings: found.as_slice().iter().map(ToString::to_string).collect(),
        });
    }
    if inline::has_marks(text) {
        return Err(Failure::refused(format!(
            "a key stands in {named}, and is not shown: {} is written in its place; use `secretPath`",
            inline::REDACTED
        )));
    }
    let mut keys = BTreeMap::new();
    for secret in template.generator_secrets() {
        let Some(dir) = secrets else {
            return Err(Failure::refused(format!(
                "{named} signs with {}/{}; --secret-dir tells where that is",
                secret.secret, secret.key
            )));
        };
        // As responders read them: beneath the directory, without waiting, and with nothing left behind.
        let refused = |why: String| Failure::refused(format!("the key {secret}: {why}"));
        let bytes = read_secret(dir, &secret).map_err(|why| refused(why.to_string()))?;
        let key = SigningKey::parse(&bytes).map_err(|why| refused(why.to_string()))?;
        let key = Some(Arc::new(key));
        let entry = KeyEntry { key, problem: None, generation: 1, text: None, beside: Vec::new() };
        keys.insert(secret, entry);
    }
    let all = template.generator_chains();
    let generator = Generator::new(template, Arc::new(KeyRing::new(1, keys)));
    if generator.chains() == 0 {
        return Err(Failure::refused(format!(
            "{named} has no generator chain that works on requests; the responder's chains are none of a load generator's"
        )));
    }
    if generator.chains() < all {
        out.note(&format!(
            "{named}: {} of {all} generator chains work on requests and are used",
            generator.chains()
        ));
    }
    Ok(generator)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const KEY: &str = "a signing key for tests, long enough for every HMAC: 0123456789abcdef";

    fn template(config: &str) -> String {
        format!(
            r#"{{"id":"t","generator":[{{"extractor":{{"type":"http_req_header","config":{{"name":"Authorization"}}}},"transforms":[{{"type":"jwt_resign","config":{{{config}}}}}]}}]}}"#
        )
    }

    #[test]
    fn keys_are_read_as_a_responder_reads_them() {
        let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("key"), KEY).unwrap();
        fs::create_dir(dir.path().join("jwt")).unwrap();
        fs::write(dir.path().join("jwt/key"), KEY).unwrap();
        symlink(outside.path().join("key"), dir.path().join("jwt/out")).unwrap();
        let out = Output::new(crate::output::Format::Json);
        let read = |key: &str| {
            let text = template(&format!(r#""secretPath":"jwt/{key}""#));
            generator("t", &text, Some(dir.path()), &out).map(|generator| generator.chains())
        };
        assert_eq!(read("key").unwrap(), 1);
        let refused = read("out").unwrap_err().to_string();
        assert!(refused.contains("jwt/out: it leads outside"), "{refused}");
    }

    #[test]
    fn a_mark_is_no_key() {
        let text = template(r#""key":"(redacted)""#);
        let refused = generator("t", &text, None, &Output::new(crate::output::Format::Json))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("is not shown"), "{refused}");
    }
}
