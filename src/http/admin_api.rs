//! Prometheus' administrative API: what deletes, and what writes to the file system.
//!
//! Off unless the configuration allows it: there is no authentication, and whoever reaches the port could
//! use it.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::model::Timestamp;
use crate::store::Head;

use super::error::{ApiError, Kind};
use super::json;
use super::params::Params;
use super::router::Api;
use super::selection::Selection;
use super::turn::off_runtime;
use super::wire;

/// Deletes the samples of the selected series in a range of time.
pub(super) async fn delete_series(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    snapshots(&api)?;
    let selection = Selection::required(&params)?;
    let writer = &api.state.writer;
    let series = writer.delete(selection.selectors, selection.range).await?;
    tracing::info!(series, "samples deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Takes out of the blocks what is deleted, and gives the space back.
pub(super) async fn clean_tombstones(State(api): State<Arc<Api>>) -> Result<StatusCode, ApiError> {
    snapshots(&api)?;
    // What is deleted of the head goes when it is sealed.
    api.state.writer.seal().await?;
    api.state.writer.settle().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a backup: in the directory `dir`, or in a new one among the snapshots.
pub(super) async fn snapshot(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let snapshots = snapshots(&api)?.to_owned();
    let head = if params.flag("skip_head")? {
        Head::Skip
    } else {
        Head::Seal
    };
    let dir = match params.get("dir").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        Some(dir) => {
            let why = format!("{} is not an absolute path", dir.display());
            return Err(ApiError::bad_param("dir", why));
        }
        None => snapshots.join(name(api.state.clock.now())),
    };
    let writer = api.state.writer.clone();
    let backup = off_runtime(move || Ok(writer.backup(&dir, head)?)).await?;
    tracing::info!(dir = %backup.dir.display(), bytes = backup.bytes, "backup made");
    Ok(json::success(&wire::Snapshot::from(backup)))
}

/// Where snapshots go, when the API is allowed.
fn snapshots(api: &Api) -> Result<&Path, ApiError> {
    api.state.snapshots.as_deref().ok_or_else(|| {
        let message =
            "admin APIs disabled: [server] admin_api = true in the configuration allows them";
        ApiError::new(Kind::Disabled, message)
    })
}

/// The time, to the second and as a name, and something that no other snapshot of this second has.
fn name(now: Timestamp) -> String {
    let time: String = now.to_string().chars().take(19).collect();
    let time = time.replace(['-', ':'], "");
    let random = RandomState::new().hash_one(std::process::id());
    format!("{time}Z-{random:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_by_their_time() {
        let name = name(Timestamp::from_ms(1_700_000_000_123));
        assert!(name.starts_with("20231114T221320Z-"), "{name}");
        assert_eq!(name.len(), 33);
    }
}
