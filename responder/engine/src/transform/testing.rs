//! Running chains in tests: on a value, on a recorded message, with the materials of a node.

use std::sync::Arc;

use bytes::Bytes;

use super::{Chain, Materials, Scope, Side, Template, World, op};
use crate::{
    diagnostic::Diagnostic,
    jwt::ResignConfig,
    request::Parts,
    transform::{
        message::{Message, Reply},
        op::{Effects, StepError},
    },
};

/// Re-signing is `<token>!`, so that chains can be tested without keys.
pub(crate) struct Marks {
    pub(crate) resigned: usize,
    pub(crate) scope: Scope,
}

impl Marks {
    pub(crate) fn new(scope: Scope) -> Self {
        Self { resigned: 0, scope }
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self::new(Scope::recorded(&Arc::new(World::default()), Side::Response, None))
    }
}

impl Effects for Marks {
    fn resign(&mut self, token: &[u8], _config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() {
            return Ok(Vec::new());
        }
        if token == b"opaque" {
            return Err(StepError::new("not_a_jwt", "no JWT"));
        }
        self.resigned += 1;
        Ok([token, b"!"].concat())
    }

    fn resigned(&self) -> usize {
        self.resigned
    }

    fn forget(&mut self, resigned: usize) {
        self.resigned = resigned;
    }

    fn validity(&mut self, name: &str, text: &str) -> Option<Vec<u8>> {
        (name == "expires_in").then(|| format!("{text}0").into_bytes())
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

/// A world to run chains in.
pub(crate) struct Lab {
    pub(crate) world: Arc<World>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with_files(&[])
    }

    /// Files by the names under which templates ask for them.
    pub(crate) fn with_files(files: &[(&str, &str)]) -> Self {
        let file = |(name, text): &(&str, &str)| {
            ((*name).to_owned(), Bytes::copy_from_slice(text.as_bytes()))
        };
        let materials =
            Materials { files: files.iter().map(file).collect(), ..Materials::default() };
        Self { world: Arc::new(World::new(Arc::new(materials), Vec::new())) }
    }

    /// A run for a live request, at a second of 2023.
    pub(crate) fn scope(&self) -> Scope {
        Scope::live(&self.world, Side::Response, 1_700_000_000_000_000_000)
    }

    /// Runs steps, a JSON list without its brackets, on a value and keeps what the run remembers.
    pub(crate) fn run(&self, steps: &str, value: &str) -> Result<String, &'static str> {
        let chain = chain(r#"{"type":"res_body"}"#, steps);
        let mut effects = Marks::new(self.scope());
        let made = op::apply(&chain.ops, value.as_bytes(), &mut effects).map_err(|why| why.code)?;
        effects.scope.commit();
        Ok(String::from_utf8(made).unwrap())
    }

    /// Runs a chain on a message.
    pub(crate) fn run_on(
        &self,
        extractor: &str,
        steps: &str,
        message: &mut Message<'_>,
    ) -> Result<Scope, &'static str> {
        let mut effects = Marks::new(self.scope());
        chain(extractor, steps).run(message, &mut effects).map_err(|why| why.code)?;
        Ok(effects.scope)
    }
}

/// A chain without findings.
pub(crate) fn chain(extractor: &str, steps: &str) -> Chain {
    let (template, found) = template(extractor, steps);
    let found: Vec<_> = found.iter().filter(|d| d.code != "chain_without_transforms").collect();
    assert!(found.is_empty(), "{extractor} {steps}: {found:?}");
    template.chains()[0].clone()
}

/// The codes of the findings about a chain.
pub(crate) fn codes(extractor: &str, steps: &str) -> Vec<&'static str> {
    template(extractor, steps).1.iter().map(|found| found.code).collect()
}

fn template(extractor: &str, steps: &str) -> (Template, Vec<Diagnostic>) {
    let json =
        format!(r#"{{"id":"t","responder":[{{"extractor":{extractor},"transforms":[{steps}]}}]}}"#);
    let (template, found) = Template::parse(json.as_bytes());
    (template, found.into_vec())
}

/// A recorded request.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Parts {
    Parts {
        method: method.to_owned(),
        host: "api".to_owned(),
        path: path.to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Parts::default()
    }
}

/// A recorded response.
pub(crate) fn reply(status: u16, body: &str) -> Reply {
    let mut reply = Reply::default();
    reply.response.status = status;
    reply.response.body = Bytes::copy_from_slice(body.as_bytes());
    reply
}
