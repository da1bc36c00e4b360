//! Users' documents before they are stored or announced, judged by the engine that will run them.

use countersign_engine::{
    compile::compile,
    diagnostic::Diagnostic,
    snapshot::{RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
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

/// Compiles recorded pairs with a template, as a responder will.
pub(crate) fn compiles(
    pairs: Vec<RrPair>,
    template: &Template,
    config: &TestConfig,
    serve: Serve,
) -> Vec<Diagnostic> {
    compile(pairs, template, config, serve).1.into_vec()
}

/// Reads the built-in test config.
pub(crate) fn standard() -> Result<TestConfig, Vec<Diagnostic>> {
    TestConfig::parse(TestConfig::STANDARD.as_bytes())
}
