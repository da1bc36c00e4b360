//! Uploads one call at a time, over the same code as the stream.

use countersign_proto::control::v1::{
    AppendPiecesRequest, AppendPiecesResponse, AppendRecordsRequest, UploadPiece,
};

use crate::service::{Plane, Problem, snapshot::append};

/// Takes pieces; all of them are durable afterwards.
pub(super) async fn append(
    plane: &Plane,
    request: AppendPiecesRequest,
) -> Result<AppendPiecesResponse, Problem> {
    let piece = |UploadPiece { sequence, path, data }| AppendRecordsRequest {
        sequence,
        path,
        data,
        ..AppendRecordsRequest::default()
    };
    let pieces = request.pieces.into_iter().map(piece).collect();
    let committed_sequence = append::once(plane, &request.name, &request.upload_id, pieces).await?;
    Ok(AppendPiecesResponse { committed_sequence })
}
