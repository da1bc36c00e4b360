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
    jwt::key::{KeyEntry, KeyRing, SigningKey},
    sending::Generator,
    snapshot::{RrPair, wire},
    transform::Template,
};
use countersign_load::recording::slim;

use crate::{
    command::snapshot::{self, export::read_pairs},
    connect::Client,
    failure::Failure,
    output::Output,
    recording,
};

/// Files are read in pieces of this size.
const PIECE: usize = 256 * 1024;
/// Key files larger than this are none.
const MAX_KEY: u64 = 64 * 1024;
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
    let mut keys = BTreeMap::new();
    for secret in template.generator_secrets() {
        let Some(dir) = secrets else {
            return Err(Failure::refused(format!(
                "{named} signs with {}/{}; --secret-dir tells where that is",
                secret.secret, secret.key
            )));
        };
        let path = dir.join(&secret.secret).join(&secret.key);
        let key = SigningKey::parse(&read_key(&path)?)
            .map_err(|why| Failure::refused(format!("{}: {why}", path.display())))?;
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

fn read_key(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|source| Failure::read(path, source))?;
    file.take(MAX_KEY + 1).read_to_end(&mut bytes).map_err(|source| Failure::read(path, source))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_KEY {
        return Err(Failure::refused(format!("{} is too large for a key", path.display())));
    }
    Ok(bytes)
}
