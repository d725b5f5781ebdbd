//! A scraped target in Prometheus' shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An entry of `/api/v1/targets`. Times are RFC 3339, as Prometheus has them there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Before anything was made of them: `__address__`, `__scheme__`, `__metrics_path__`, `job`.
    pub discovered_labels: BTreeMap<String, String>,
    /// What every series of the target carries.
    pub labels: BTreeMap<String, String>,
    /// The job.
    pub scrape_pool: String,
    pub scrape_url: String,
    /// The same as others would reach it.
    pub global_url: String,
    /// Empty when the last scrape went well.
    pub last_error: String,
    pub last_scrape: String,
    /// In seconds.
    pub last_scrape_duration: f64,
    /// `up`, `down` or `unknown`.
    pub health: String,
    pub scrape_interval: String,
    pub scrape_timeout: String,
}
