//! Users' documents before they are stored or announced, judged by the engine that will run them.

use std::sync::Arc;

use countersign_engine::{
    compile::compile_treated,
    diagnostic::{Diagnostic, Diagnostics},
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

/// Reads a template.
pub(crate) fn template(json: &str) -> Checked {
    let (template, findings) = Template::parse(json.as_bytes());
    let mut findings = findings.into_vec();
    if json.contains("PRIVATE KEY-----") {
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

/// So many pairs are compiled together, at least; a large snapshot is never in memory as a whole.
const TOGETHER: usize = 20_000;

/// Compiles a snapshot with a template, as a responder will, and returns the findings. What was compiled is thrown away.
///
/// Pairs of a large snapshot come by endpoint, some at a time, so that findings that depend on what lies further apart are the responder's
/// to make.
pub(crate) async fn compiles(
    blobs: &dyn BlobStore,
    manifest: Digest,
    template: &Arc<Template>,
    config: TestConfig,
    serve: Serve,
) -> Result<Vec<Diagnostic>, ContentError> {
    let config = Arc::new(config);
    let treatment = content::treatment(blobs, manifest).await?;
    let mut chunks = Manifest::get(blobs, manifest).await?.chunks.into_iter().peekable();
    let mut found = Diagnostics::default();
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
                compile_treated(pairs, &template, &config, serve, treatment).1
            });
            for finding in compiled.await?.into_vec() {
                if !found.as_slice().contains(&finding) {
                    found.push(finding);
                }
            }
        }
        if last {
            return Ok(found.into_vec());
        }
    }
}

/// Reads the built-in test config.
pub(crate) fn standard() -> Result<TestConfig, Vec<Diagnostic>> {
    TestConfig::parse(TestConfig::STANDARD.as_bytes())
}
