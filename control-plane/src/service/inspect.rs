//! Looking inside: previews of templates and explanations of requests, by the engine that serves.

use std::sync::Arc;

use countersign_engine::{
    compile::compile_treated,
    diagnostic::Diagnostic,
    formats::{FileReader, Sink},
    jwt::key::KeyRing,
    preview::{self, Preview},
    request,
    serving::Serving,
    snapshot::{
        RrPair,
        wire::{encode_explanation, encode_pair},
    },
    transform::Template,
};
use countersign_proto::{
    control::v1::{
        ChainPreview, ExplainRequestRequest, ExplainRequestResponse, PreviewTransformRequest,
        PreviewTransformResponse, RecordRef, StepPreview,
        inspect_service_server::InspectService,
        preview_transform_request::{Pair, Template as Given},
    },
    snapshot::v1::{HttpRequest, SignatureEntry},
    transform::v1::Transform,
};
use tonic::{Request, Response, Status};

use super::{
    Plane, Problem,
    name::{self, Name},
    replay, snapshot, stored, wire,
};
use crate::{
    content::{self, Manifest},
    store::{self, Kind, now},
    validate::{self, Checked},
};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Inspect {
    pub(crate) plane: Arc<Plane>,
}

#[tonic::async_trait]
impl InspectService for Inspect {
    async fn preview_transform(
        &self,
        request: Request<PreviewTransformRequest>,
    ) -> Result<Response<PreviewTransformResponse>, Status> {
        Ok(Response::new(self.preview(request.into_inner()).await?))
    }

    async fn explain_request(
        &self,
        request: Request<ExplainRequestRequest>,
    ) -> Result<Response<ExplainRequestResponse>, Status> {
        Ok(Response::new(self.explain(request.into_inner()).await?))
    }
}

impl Inspect {
    async fn preview(
        &self,
        request: PreviewTransformRequest,
    ) -> Result<PreviewTransformResponse, Problem> {
        let project = name::project("parent", &request.parent)?;
        let _turn = self.plane.look(&project).await?;
        let Checked { template, findings } = match request.template {
            Some(Given::Transform(name)) => self.template("transform", &project, &name).await?,
            Some(Given::TemplateJson(json)) => validate::template(&json),
            None => {
                return Err(Problem::field("template", "MISSING", "name or give a template"));
            }
        };
        let pair = match request.pair {
            Some(Pair::Record(record)) => self.record(&project, &record).await?,
            Some(Pair::Rrpair(file)) => read_pair(&file)?,
            None => return Err(Problem::field("pair", "MISSING", "name or give a pair")),
        };
        let at = now();
        let preview = store::blocking(move || preview::preview(&template, &pair, at)).await?;
        let Preview { chains, before, after, signature } = preview;
        Ok(PreviewTransformResponse {
            chains: chains.into_iter().map(chain).collect(),
            before: Some(encode_pair(before)),
            after: Some(encode_pair(after)),
            signature: signature
                .into_iter()
                .map(|(key, value)| SignatureEntry { key, value })
                .collect(),
            diagnostics: wire::encode_diagnostics(&findings),
        })
    }

    async fn explain(
        &self,
        request: ExplainRequestRequest,
    ) -> Result<ExplainRequestResponse, Problem> {
        let project = name::project("parent", &request.parent)?;
        let snapshot = within("snapshot", Kind::Snapshot, &project, &request.snapshot)?;
        let (recorded, manifest) = snapshot::ready(&self.plane, &snapshot).await?;
        let serve = replay::choose(request.serve(), &recorded);
        let Checked { template, mut findings } = if request.transform.is_empty() {
            Checked { template: Template::default(), findings: Vec::new() }
        } else {
            self.template("transform", &project, &request.transform).await?
        };
        let config = validate::standard().map_err(|findings| Problem::Unusable {
            what: "the built-in test config".to_owned(),
            reason: "INVALID_TEST_CONFIG",
            findings,
        })?;
        let asked = request.request.unwrap_or_default();
        let headers = headers(&asked)?;
        let _turn = self.plane.heavy(&project).await?;
        let pairs = content::pairs(&*self.plane.blobs, manifest).await?;
        let treatment = content::treatment(&*self.plane.blobs, manifest).await?;
        let at = now();
        let (explanation, compiled) = store::blocking(move || {
            let (compiled, found) = compile_treated(pairs, &template, &config, serve, treatment);
            let serving = Serving::new(Arc::new(compiled), &KeyRing::default());
            let live = request::Request {
                method: &asked.method,
                host: &asked.host,
                path: &asked.path,
                query: &asked.query,
                headers: &headers,
                body: &asked.body,
                ..request::Request::default()
            };
            (serving.explain(&live, at), found)
        })
        .await?;
        findings.extend(compiled.into_vec());
        Ok(ExplainRequestResponse {
            explanation: Some(encode_explanation(explanation)),
            diagnostics: wire::encode_diagnostics(&findings),
        })
    }

    async fn template(&self, field: &str, project: &str, named: &str) -> Result<Checked, Problem> {
        let name = within(field, Kind::Transform, project, named)?;
        let transform: Transform = stored(&self.plane.get(Kind::Transform, &name.full).await?)?;
        Ok(validate::template(&transform.template_json))
    }

    /// A pair that must be there.
    pub(super) async fn record(
        &self,
        project: &str,
        record: &RecordRef,
    ) -> Result<RrPair, Problem> {
        let name = within("record.snapshot", Kind::Snapshot, project, &record.snapshot)?;
        let (_, manifest) = snapshot::ready(&self.plane, &name).await?;
        let manifest = Manifest::get(&*self.plane.blobs, manifest).await?;
        let wanted = |pair: &RrPair| match record.uuid.as_ref() {
            [] => pair.ordinal == record.ordinal,
            uuid => pair.uuid.as_ref().is_some_and(|own| own == uuid),
        };
        let ordinal = record.ordinal..record.ordinal.saturating_add(1);
        let chunks = manifest.chunks.iter();
        for chunk in chunks.filter(|chunk| !record.uuid.is_empty() || chunk.may_hold(&ordinal)) {
            let pairs = content::chunk(&*self.plane.blobs, chunk).await?;
            if let Some(pair) = pairs.into_iter().find(&wanted) {
                return Ok(pair);
            }
        }
        Err(Problem::field(
            "record",
            "NOT_FOUND",
            format!("snapshot {} has no such pair; it has {}", name.full, manifest.pairs()),
        ))
    }
}

/// A resource of the project that the request is about.
fn within(field: &str, kind: Kind, project: &str, named: &str) -> Result<Name, Problem> {
    let name = Name::parse(kind, field, named)?;
    if name.project == project {
        return Ok(name);
    }
    Err(Problem::field(field, "WRONG_PROJECT", "it belongs to another project"))
}

/// The first pair of a file, whose kind its content tells.
fn read_pair(file: &[u8]) -> Result<RrPair, Problem> {
    #[derive(Default)]
    struct First {
        pair: Option<RrPair>,
        findings: Vec<Diagnostic>,
    }
    impl Sink for First {
        fn pair(&mut self, pair: RrPair) {
            self.pair.get_or_insert(pair);
        }
        fn skipped(&mut self, why: Diagnostic) {
            self.findings.push(why);
        }
        fn refused(&mut self, why: Diagnostic) {
            self.findings.push(why);
        }
    }
    let mut first = First::default();
    let mut reader = FileReader::new("pair", &mut first);
    reader.push(file);
    reader.finish();
    first.pair.ok_or(Problem::Document {
        what: "the pair",
        reason: "NO_PAIR",
        findings: first.findings,
    })
}

fn headers(request: &HttpRequest) -> Result<http::HeaderMap, Problem> {
    let mut headers = http::HeaderMap::new();
    for (nth, header) in request.headers.iter().enumerate() {
        let (Ok(name), Ok(value)) = (
            http::HeaderName::from_bytes(header.name.as_bytes()),
            http::HeaderValue::from_bytes(&header.value),
        ) else {
            return Err(Problem::field(
                format!("request.headers[{nth}]"),
                "INVALID_HEADER",
                "name or value has characters that HTTP forbids",
            ));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn chain(chain: preview::ChainPreview) -> ChainPreview {
    let (failure_code, failure) = chain.failure.unwrap_or_default();
    ChainPreview {
        path: chain.path,
        on_request: chain.on_request,
        admitted: chain.admitted,
        nature: chain.nature.to_owned(),
        failure_code: failure_code.to_owned(),
        failure,
        steps: chain
            .steps
            .into_iter()
            .map(|step| StepPreview {
                path: step.path,
                kind: step.kind,
                given: step.given,
                failed: step.returned.is_none(),
                returned: step.returned.unwrap_or_default(),
            })
            .collect(),
    }
}
