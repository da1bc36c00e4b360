//! What a commit is asked to take out of a recording.

use countersign_engine::{
    diagnostic::has_errors,
    dlp::{DlpConfig, RedactionKey, Redactor, strip::Stripper},
    transform::Template,
};
use countersign_proto::{control::v1::CommitSnapshotRequest, transform::v1::Transform};

use crate::{
    import::treat::Treating,
    service::{Plane, Problem, name::Name, stored},
    store::Kind,
};

/// Reads the request's wishes.
pub(super) async fn of(
    plane: &Plane,
    snapshot: &Name,
    request: &CommitSnapshotRequest,
) -> Result<Treating, Problem> {
    let redactor = match text_of(&request.dlp_config)? {
        Some(text) => redactor(text)?,
        None => None,
    };
    // Without another wish it is the template that came with the recording, with which the recording is served.
    let (field, transform) = match request.transform.as_str() {
        "" => ("default_transform", request.default_transform.as_str()),
        given => ("transform", given),
    };
    let stripper = match (request.strip_signatures, transform) {
        (true, _) => Some(Stripper::all()),
        (false, "") => None,
        (false, transform) => {
            let name = Name::parse(Kind::Transform, field, transform)?;
            if name.project != snapshot.project {
                let message = "the transform belongs to another project";
                return Err(Problem::field(field, "WRONG_PROJECT", message));
            }
            let record = plane.get(Kind::Transform, &name.full).await?;
            let transform: Transform = stored(&record)?;
            let (template, _) = Template::parse(transform.template_json.as_bytes());
            Some(Stripper::resigned(&template))
        }
    };
    Ok(Treating { redactor, stripper })
}

/// The text of the config: a built-in one by its name, or one that is written out.
fn text_of(dlp_config: &str) -> Result<Option<&str>, Problem> {
    match dlp_config.trim() {
        "" => Ok(None),
        text if text.starts_with('{') => Ok(Some(text)),
        name => DlpConfig::built_in_json(name).map(Some).ok_or_else(|| {
            let message = "there is no such DLP config; built in are `standard` and `none`";
            Problem::field("dlp_config", "UNKNOWN_DLP_CONFIG", message)
        }),
    }
}

fn redactor(text: &str) -> Result<Option<(Redactor, bytes::Bytes)>, Problem> {
    let (config, found) = DlpConfig::parse(text.as_bytes());
    let findings = found.into_vec();
    if has_errors(&findings) {
        let what = "the DLP config";
        return Err(Problem::Document { what, reason: "INVALID_DLP_CONFIG", findings });
    }
    // Two random ids hold more than two hundred bits that nobody can guess.
    let seed = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
    let redactor = Redactor::new(config, RedactionKey::from_seed(&seed));
    let text = DlpConfig::written_out(text.as_bytes());
    Ok((!redactor.config().is_empty()).then(|| (redactor, text.into())))
}
