//! What pages have to know of the program: what a template can be made of, and which control plane answers.

use std::sync::Arc;

use countersign_engine::{snapshot::wire::timestamp, transform::schema};
use countersign_proto::control::v1::{
    DescribeTransformsRequest, DescribeTransformsResponse, ElementField, ElementKind,
    FilterCriterion, GetControlPlaneRequest, GetControlPlaneResponse,
    console_service_server::ConsoleService,
};
use tonic::{Request, Response, Status};

use super::Plane;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    pub(crate) plane: Arc<Plane>,
}

#[tonic::async_trait]
impl ConsoleService for Console {
    async fn describe_transforms(
        &self,
        _request: Request<DescribeTransformsRequest>,
    ) -> Result<Response<DescribeTransformsResponse>, Status> {
        let criteria = schema::criteria().into_iter();
        Ok(Response::new(DescribeTransformsResponse {
            extractors: schema::extractors().iter().map(kind).collect(),
            steps: schema::steps().iter().map(kind).collect(),
            criteria: criteria
                .map(|(json, query, keyed)| FilterCriterion {
                    json_name: json.to_owned(),
                    query_name: query.to_owned(),
                    keyed,
                })
                .collect(),
        }))
    }

    async fn get_control_plane(
        &self,
        _request: Request<GetControlPlaneRequest>,
    ) -> Result<Response<GetControlPlaneResponse>, Status> {
        let plane = &self.plane;
        let (records, blobs) = plane.kept;
        Ok(Response::new(GetControlPlaneResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            replica: plane.replica.clone(),
            start_time: Some(timestamp(plane.began)),
            records: records.to_owned(),
            blobs: blobs.to_owned(),
            digest_function: plane.blobs.function().name().to_owned(),
            store: plane.meta.identity().to_owned(),
            revision: *plane.meta.revision().borrow(),
        }))
    }
}

fn kind(kind: &schema::Kind) -> ElementKind {
    ElementKind {
        name: kind.name.to_owned(),
        aliases: kind.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        summary: kind.summary.to_owned(),
        side: kind.side.to_owned(),
        unsupported: kind.unsupported.to_owned(),
        fields: kind.fields.iter().map(field).collect(),
    }
}

fn field(field: &schema::Field) -> ElementField {
    ElementField {
        name: field.name.to_owned(),
        summary: field.summary.to_owned(),
        kind: field.input.name().to_owned(),
        default_value: field.default.to_owned(),
        required: field.required,
        choices: field.input.choices().iter().map(|choice| (*choice).to_owned()).collect(),
        placeholders: field.placeholders,
    }
}
