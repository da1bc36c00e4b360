//! Transform templates: validated by the engine on each write, every finding returned at once.

use std::sync::Arc;

use countersign_engine::{
    diagnostic::has_errors,
    jwt::inline::{self, NotRestored},
    lineage::Options,
    snapshot::{
        Serve,
        digest::Digest,
        wire::{encode_digest, encode_secret_ref, timestamp},
    },
};
use countersign_proto::{
    control::v1::{
        CreateTransformRequest, DeleteTransformRequest, GetTransformRequest, ListTransformsRequest,
        ListTransformsResponse, SuggestTransformRequest, SuggestTransformResponse,
        UpdateTransformRequest, ValidateTransformRequest, ValidateTransformResponse,
        transform_service_server::TransformService,
    },
    transform::v1::Transform,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{
    Plane, Problem, lineage,
    name::{self, Name},
    page, quota, snapshot, wire,
};
use crate::{
    store::{Expect, Kind, ListQuery, Record, Txn},
    validate::{self, Checked},
};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Transforms {
    pub(crate) plane: Arc<Plane>,
}

#[tonic::async_trait]
impl TransformService for Transforms {
    async fn get_transform(
        &self,
        request: Request<GetTransformRequest>,
    ) -> Result<Response<Transform>, Status> {
        Ok(Response::new(self.get(&request.into_inner().name).await?))
    }

    async fn list_transforms(
        &self,
        request: Request<ListTransformsRequest>,
    ) -> Result<Response<ListTransformsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn create_transform(
        &self,
        request: Request<CreateTransformRequest>,
    ) -> Result<Response<Transform>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn update_transform(
        &self,
        request: Request<UpdateTransformRequest>,
    ) -> Result<Response<Transform>, Status> {
        Ok(Response::new(self.update(request.into_inner()).await?))
    }

    async fn delete_transform(
        &self,
        request: Request<DeleteTransformRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::Transform, "name", &request.name)?;
        let txn = Txn::delete(Kind::Transform, name.full, expect(request.etag));
        self.plane.meta.commit(txn).await.map_err(Problem::from)?;
        self.plane.quota.released(&name.project, 0);
        Ok(Response::new(()))
    }

    async fn validate_transform(
        &self,
        request: Request<ValidateTransformRequest>,
    ) -> Result<Response<ValidateTransformResponse>, Status> {
        Ok(Response::new(self.validate(request.into_inner()).await?))
    }

    async fn suggest_transform(
        &self,
        request: Request<SuggestTransformRequest>,
    ) -> Result<Response<SuggestTransformResponse>, Status> {
        Ok(Response::new(self.suggest(request.into_inner()).await?))
    }
}

impl Transforms {
    async fn get(&self, name: &str) -> Result<Transform, Problem> {
        let name = Name::parse(Kind::Transform, "name", name)?;
        shown(self.plane.get(Kind::Transform, &name.full).await?)
    }

    async fn list(
        &self,
        request: ListTransformsRequest,
    ) -> Result<ListTransformsResponse, Problem> {
        let prefix = name::prefix(Kind::Transform, &name::project("parent", &request.parent)?);
        let after = page::after(&prefix, &request.page_token)?;
        let query = ListQuery {
            kind: Kind::Transform,
            prefix: prefix.clone(),
            after,
            limit: page::size(request.page_size)?,
        };
        let found = self.plane.meta.list(query).await?;
        let next_page_token = match found.records.last() {
            Some(last) if found.more => page::token(&prefix, &last.name),
            _ => String::new(),
        };
        Ok(ListTransformsResponse {
            transforms: found.records.into_iter().map(shown).collect::<Result<_, _>>()?,
            next_page_token,
        })
    }

    async fn create(&self, request: CreateTransformRequest) -> Result<Transform, Problem> {
        let project = name::project("parent", &request.parent)?;
        let json = with_keys(&request.transform.unwrap_or_default().template_json, "")?;
        let checked = accept(&json)?;
        let name = if request.transform_id.is_empty() {
            Name::within(
                Kind::Transform,
                &project,
                "transform.template_json.id",
                checked.template.id(),
            )?
        } else {
            Name::within(Kind::Transform, &project, "transform_id", &request.transform_id)?
        };
        if request.validate_only {
            if self.plane.meta.get(Kind::Transform, &name.full).await?.is_some() {
                return Err(Problem::Exists { kind: Kind::Transform, name: name.full });
            }
            let json = inline::redacted(&json);
            return Ok(Transform { name: name.full, ..transform(json, &checked) });
        }
        self.put(name, Expect::Absent, json, &checked).await
    }

    async fn update(&self, request: UpdateTransformRequest) -> Result<Transform, Problem> {
        let given = request.transform.unwrap_or_default();
        let name = Name::parse(Kind::Transform, "transform.name", &given.name)?;
        let before = self.plane.meta.get(Kind::Transform, &name.full).await?;
        let before: Transform = before.as_ref().map(super::stored).transpose()?.unwrap_or_default();
        let json = with_keys(&given.template_json, &before.template_json)?;
        let checked = accept(&json)?;
        let expect = match (given.etag.is_empty(), request.allow_missing) {
            (false, _) => Expect::Etag(given.etag),
            (true, true) => Expect::Any,
            (true, false) => Expect::Present,
        };
        if request.validate_only {
            if !request.allow_missing {
                self.plane.get(Kind::Transform, &name.full).await?;
            }
            let json = inline::redacted(&json);
            return Ok(Transform { name: name.full, ..transform(json, &checked) });
        }
        self.put(name, expect, json, &checked).await
    }

    async fn put(
        &self,
        name: Name,
        expect: Expect,
        json: String,
        checked: &Checked,
    ) -> Result<Transform, Problem> {
        let body = transform(json, checked).encode_to_vec();
        shown(quota::put(&self.plane, Kind::Transform, name, expect, body).await?)
    }

    async fn validate(
        &self,
        request: ValidateTransformRequest,
    ) -> Result<ValidateTransformResponse, Problem> {
        let project = name::project("parent", &request.parent)?;
        let Checked { template, mut findings } = validate::written(&request.template_json);
        let required_secrets = template.required_secrets().iter().map(encode_secret_ref).collect();
        if !request.snapshot.is_empty() {
            let name = Name::parse(Kind::Snapshot, "snapshot", &request.snapshot)?;
            if name.project != project {
                return Err(Problem::field(
                    "snapshot",
                    "WRONG_PROJECT",
                    "the snapshot belongs to another project",
                ));
            }
            let (_, manifest) = snapshot::ready(&self.plane, &name).await?;
            let config = validate::standard().map_err(|findings| Problem::Unusable {
                what: "the built-in test config".to_owned(),
                reason: "INVALID_TEST_CONFIG",
                findings,
            })?;
            let _turn = self.plane.heavy(&name.project).await?;
            let (blobs, template) = (&*self.plane.blobs, Arc::new(template));
            let compiled =
                validate::compiles(blobs, manifest, &template, config, Serve::All).await?;
            for found in compiled.findings {
                if !findings.contains(&found) {
                    findings.push(found);
                }
            }
        }
        Ok(ValidateTransformResponse {
            diagnostics: wire::encode_diagnostics(&findings),
            required_secrets,
        })
    }
}

impl Transforms {
    async fn suggest(
        &self,
        request: SuggestTransformRequest,
    ) -> Result<SuggestTransformResponse, Problem> {
        let project = name::project("parent", &request.parent)?;
        let snapshot = Name::parse(Kind::Snapshot, "snapshot", &request.snapshot)?;
        if snapshot.project != project {
            return Err(Problem::field(
                "snapshot",
                "WRONG_PROJECT",
                "the snapshot belongs to another project",
            ));
        }
        let id = if request.transform_id.is_empty() { &snapshot.id } else { &request.transform_id };
        let name = Name::within(Kind::Transform, &project, "transform_id", id)?;
        let options = Options::new(&name.id, &request.secret)
            .map_err(|why| Problem::field("secret", "INVALID_SECRET", why.to_string()))?;
        let (_, manifest) = snapshot::ready(&self.plane, &snapshot).await?;
        let _turn = self.plane.heavy(&project).await?;
        let (suggestion, resigned_count) =
            lineage::suggestion(&self.plane, manifest, &options).await?;
        Ok(SuggestTransformResponse {
            diagnostics: wire::encode_diagnostics(&suggestion.findings),
            secrets: lineage::encode_secrets(&suggestion.secrets),
            template_json: suggestion.template_json,
            resigned_count,
        })
    }
}

/// The transform of a record.
pub(crate) fn read(record: Record) -> Result<Transform, Problem> {
    let stored: Transform = super::stored(&record)?;
    Ok(Transform {
        name: record.name,
        etag: record.etag,
        create_time: Some(timestamp(record.created)),
        update_time: Some(timestamp(record.updated)),
        ..stored
    })
}

/// The same as it is told: without the keys that stand in it.
fn shown(record: Record) -> Result<Transform, Problem> {
    let transform = read(record)?;
    let json = inline::redacted(&transform.template_json);
    Ok(Transform { digest: digest(&json), template_json: json, ..transform })
}

/// A template as it was written, with the keys that stood where it has marks.
fn with_keys(json: &str, before: &str) -> Result<String, Problem> {
    inline::restored(json, before).map_err(|why| {
        let (mark, path) = (inline::REDACTED, why.path());
        let (reason, message) = match &why {
            NotRestored::NoKey(_) => (
                "KEY_NOT_SHOWN",
                format!(
                    "`{mark}` stands for a key that is not shown, and here is none that it could stand for; write the key, or use `secretPath`"
                ),
            ),
            NotRestored::Doubled(_) => (
                "DOUBLED_MEMBER",
                format!(
                    "there are two members of this name, which case does not tell apart, so that it is not clear what `{mark}` stands for"
                ),
            ),
        };
        Problem::field(format!("transform.template_json.{path}"), reason, message)
    })
}

/// What an etag in a deletion asks for.
pub(crate) fn expect(etag: String) -> Expect {
    if etag.is_empty() { Expect::Present } else { Expect::Etag(etag) }
}

fn accept(json: &str) -> Result<Checked, Problem> {
    let checked = validate::written(json);
    if has_errors(&checked.findings) {
        return Err(Problem::Document {
            what: "the template",
            reason: "INVALID_TEMPLATE",
            findings: checked.findings,
        });
    }
    Ok(checked)
}

/// The digest of a template as it is shown: by that of a key the key could be guessed.
fn digest(shown: &str) -> Option<countersign_proto::r#type::v1::Digest> {
    Some(encode_digest(&Digest::of(shown.as_bytes())))
}

fn transform(json: String, checked: &Checked) -> Transform {
    Transform {
        digest: digest(&inline::redacted(&json)),
        template_json: json,
        required_secrets: checked
            .template
            .required_secrets()
            .iter()
            .map(encode_secret_ref)
            .collect(),
        diagnostics: wire::encode_diagnostics(&checked.findings),
        ..Transform::default()
    }
}
