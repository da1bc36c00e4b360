//! Users' documents before they are stored or announced, judged by the engine that will run them.

use std::{collections::BTreeSet, sync::Arc};

use countersign_engine::{
    compile::compile_treated,
    diagnostic::{Diagnostic, Diagnostics, Severity},
    jwt::inline,
    snapshot::{RrPair, Serve, digest::Digest},
    test_config::TestConfig,
    transform::Template,
};

use crate::{
    content::{self, ContentError, Manifest},
    store::{self, BlobStore},
};

/// A template, and everything that was found in it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The template, as far as it can be read.
    pub(crate) template: Template,
    /// Every finding.
    pub(crate) findings: Vec<Diagnostic>,
}

/// Reads a template that somebody has just written. A name that is a known one but for a slip is an error here: a warning would be read when
/// answers are wrong. Of a stored template it stays a warning, because what one version does not know may be of a later one.
pub(crate) fn written(json: &str) -> Checked {
    let mut checked = template(json);
    for slip in checked.findings.iter_mut().filter(|found| found.misspelt) {
        slip.severity = Severity::Error;
    }
    checked
}

/// Reads a template.
pub(crate) fn template(json: &str) -> Checked {
    let (template, findings) = Template::parse(json.as_bytes());
    let mut findings = findings.into_vec();
    if findings.iter().all(|found| found.code != "not_json") && !inline::is_readable(json) {
        let message = "the template is nested too deeply to be looked through for keys";
        findings.push(Diagnostic::error("not_json", "", message));
    }
    // As it stands in PEM, and in a JWK within the text.
    let is_jwk = || json.contains("\\\"kty\\\"") && json.contains("\\\"d\\\"");
    if json.contains("PRIVATE KEY-----") || is_jwk() {
        findings.push(
            Diagnostic::warning(
                "private_key_in_template",
                "",
                "the template holds a private key, which is stored and announced with it",
            )
            .hint("put the key into a mounted secret and name it with `secretPath`"),
        );
    }
    Checked { template, findings }
}

/// What compiling a snapshot told.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// The findings.
    pub(crate) findings: Vec<Diagnostic>,
    /// The hosts that were recorded, without ports; at most [`MAX_HOSTS`].
    pub(crate) hosts: BTreeSet<String>,
}

/// Of more hosts nothing is told.
const MAX_HOSTS: usize = 256;

/// So many pairs are compiled together, at least; a large snapshot is never in memory as a whole.
const TOGETHER: usize = 20_000;

/// Compiles a snapshot with a template, as a responder will, and tells what it found. What was compiled is thrown away.
///
/// Pairs of a large snapshot come by endpoint, some at a time, so that findings that depend on what lies further apart are the responder's
/// to make.
pub(crate) async fn compiles(
    blobs: &dyn BlobStore,
    manifest: Digest,
    template: &Arc<Template>,
    config: TestConfig,
    serve: Serve,
) -> Result<Compiled, ContentError> {
    let config = Arc::new(config);
    let treatment = content::treatment(blobs, manifest).await?;
    let mut chunks = Manifest::get(blobs, manifest).await?.chunks.into_iter().peekable();
    let mut found = Diagnostics::default();
    let mut hosts = BTreeSet::new();
    let mut pairs: Vec<RrPair> = Vec::new();
    loop {
        if let Some(chunk) = chunks.next() {
            let chunk = content::chunk(blobs, &chunk).await?;
            pairs.extend(chunk.into_iter().filter(|pair| serve.includes(pair.direction)));
        }
        let last = chunks.peek().is_none();
        if last || pairs.len() >= TOGETHER {
            let (pairs, template, config) =
                (std::mem::take(&mut pairs), Arc::clone(template), Arc::clone(&config));
            let treatment = treatment.clone();
            let compiled = store::blocking(move || {
                let (compiled, found) =
                    compile_treated(pairs, &template, &config, serve, treatment);
                (compiled.hosts().map(str::to_owned).collect::<Vec<_>>(), found)
            });
            let (recorded, findings) = compiled.await?;
            let room = MAX_HOSTS.saturating_sub(hosts.len());
            hosts.extend(recorded.into_iter().take(room));
            for finding in findings.into_vec() {
                if !found.as_slice().contains(&finding) {
                    found.push(finding);
                }
            }
        }
        if last {
            return Ok(Compiled { findings: found.into_vec(), hosts });
        }
    }
}

/// Reads the built-in test config.
pub(crate) fn standard() -> Result<TestConfig, Vec<Diagnostic>> {
    TestConfig::parse(TestConfig::STANDARD.as_bytes())
}
