//! Calls about alerts and silences.

use hyper::Method;

use super::{Client, Content, Error, path_segment};
use crate::http::wire;

impl Client {
    /// Every alert, and who is told of it.
    pub async fn alerting(&self) -> Result<wire::Alerting, Error> {
        self.get("/api/v1/alerting").await
    }

    /// All silences, the newest first.
    pub async fn silences(&self) -> Result<Vec<wire::Silence>, Error> {
        self.get("/api/v1/silences").await
    }

    /// Makes a silence, or changes the one that is named.
    pub async fn silence_set(&self, silence: &wire::NewSilence) -> Result<wire::SilenceId, Error> {
        self.post("/api/v1/silences", silence).await
    }

    /// Ends a silence now, and answers what it then is.
    pub async fn silence_expire(&self, id: &str) -> Result<wire::Silence, Error> {
        let path = format!("/api/v1/silences/{}", path_segment(id));
        self.ask(Method::DELETE, &path, Content::None).await
    }
}
