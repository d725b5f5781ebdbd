//! Calls about the store itself: its state, its backup, its contents as text.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};

use super::{Client, Content, Error, Pairs, matches, seconds, with_query};
use crate::client::LabelMap;
use crate::http::wire;
use crate::model::{TimeRange, Timestamp};

/// Longer than the server lets an administrative request run.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(7 * 3600);

/// Why an export did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Asked(#[from] Error),
    #[error("what is exported cannot be written")]
    Sink(#[source] std::io::Error),
}

impl Client {
    pub async fn store_status(&self, with_blocks: bool) -> Result<wire::StoreStatus, Error> {
        let pairs = vec![("blocks", with_blocks.to_string())];
        self.get(&with_query("/api/v1/status/store", pairs)).await
    }

    /// The series that pass one of the selectors and have samples in a range of time.
    pub async fn series_in(
        &self,
        selectors: &[&str],
        range: TimeRange,
    ) -> Result<Vec<LabelMap>, Error> {
        let form = selected(selectors, range);
        self.ask(Method::POST, "/api/v1/series", Content::Form(form))
            .await
    }

    /// Deletes the samples of the selected series in a range of time.
    pub async fn delete_series(&self, selectors: &[&str], range: TimeRange) -> Result<(), Error> {
        let form = selected(selectors, range);
        self.order("/api/v1/admin/tsdb/delete_series", Content::Form(form))
            .await
    }

    /// Has the server write a backup to a directory of its own host.
    pub async fn snapshot(&self, dir: &str) -> Result<wire::Snapshot, Error> {
        let form = vec![("dir", dir.to_owned())];
        let patient = self.clone().with_timeout(ADMIN_TIMEOUT);
        patient
            .ask(
                Method::POST,
                "/api/v1/admin/tsdb/snapshot",
                Content::Form(form),
            )
            .await
    }

    /// Stores the samples of a text in the format that its type says.
    pub async fn import(&self, content_type: &'static str, text: Vec<u8>) -> Result<(), Error> {
        let content = Content::Text(content_type, text);
        self.order("/api/v1/import/prometheus", content).await
    }

    /// Passes what is stored of the selected series to `sink`, as text, piece by piece.
    pub async fn export(
        &self,
        selectors: &[&str],
        range: TimeRange,
        mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), ExportError> {
        let path = with_query("/api/v1/export", selected(selectors, range));
        let head = self.transport.send(Method::GET, &path, None, Vec::new());
        let (status, mut body) = self.within(head).await?;
        if !status.is_success() {
            let body = self.within(self.collect(body)).await?;
            return Err(self.refusal("/api/v1/export", status, &body).into());
        }
        loop {
            // Each piece by itself: the whole may take hours.
            let piece = async { Ok(body.frame().await) };
            let Some(frame) = self.within(piece).await? else {
                return Ok(());
            };
            let frame = frame.map_err(|error| self.unreachable(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                sink(&data).map_err(ExportError::Sink)?;
            }
        }
    }

    /// A request that is answered without data.
    async fn order(&self, path: &str, content: Content<'_>) -> Result<(), Error> {
        let (status, body) = self.send(Method::POST, path, content).await?;
        match status {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.refusal(path, status, &body)),
        }
    }

    async fn collect(&self, body: axum::body::Body) -> Result<Bytes, Error> {
        let body = crate::net::body::read(body, super::ANSWER_BYTES_MAX, self.timeout).await;
        body.map_err(|error| self.unreachable(error.to_string()))
    }

    async fn within<T>(&self, waiting: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, waiting).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(format!("no answer within {:?}", self.timeout))),
        }
    }
}

/// Selectors and a range; an open end is left out.
fn selected<'a>(selectors: &[&str], range: TimeRange) -> Pairs<'a> {
    let mut pairs = matches(selectors);
    if range.start() > Timestamp::MIN {
        pairs.push(("start", seconds(range.start())));
    }
    if range.end() < Timestamp::MAX {
        pairs.push(("end", seconds(range.end())));
    }
    pairs
}
