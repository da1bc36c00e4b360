//! `jwt_claim`: works on one claim of a token. A changed claim is put back into the token, whose JOSE header and JWS signature stay: only
//! `jwt_resign` makes it valid again.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, json_window};
use crate::{
    diagnostic::Diagnostics,
    json::{self, Path},
    transform::{
        Step,
        token_view::{Part, View},
    },
};

#[derive(Debug)]
struct JwtClaim {
    /// The claim of this very name, and what the name means as a path.
    paths: Vec<Path>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let claim = step.required("claim", path, found)?;
    let paths = [Some(Path::of_names([claim.clone()])), Path::parse(&claim).ok()];
    Some(Arc::new(JwtClaim { paths: paths.into_iter().flatten().collect() }))
}

impl Transform for JwtClaim {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let view = View::open(value, Part::Claims)
            .ok_or_else(|| StepError::new("not_a_jwt", "jwt_claim: the value is no JWT"))?;
        let place = self
            .paths
            .iter()
            .find_map(|path| json::locate(&view.json, path).ok()?.into_iter().next());
        let place = place.ok_or_else(|| {
            StepError::new("path_not_found", "jwt_claim: the token has no such claim")
        })?;
        let claims = json_window(&view.json, &place, rest, effects)?;
        Ok(if claims == view.json { value.to_vec() } else { view.close(value, &claims) })
    }
}
