//! What a request selects by `match[]`, `start` and `end`.

use crate::model::{Matcher, TimeRange};
use crate::promql::{Limits, parse_selector};

use super::error::{ApiError, Kind};
use super::params::Params;

/// Nesting of a `match[]`: braces, and the alternatives in them.
const SELECTOR_DEPTH_MAX: usize = 32;

/// What the metadata endpoints select by.
pub(super) struct Selection {
    /// One list of matchers for each alternative of each `match[]`.
    pub(super) selectors: Vec<Vec<Matcher>>,
    pub(super) range: TimeRange,
    pub(super) limit: Option<usize>,
}

impl Selection {
    pub(super) fn of(params: &Params) -> Result<Self, ApiError> {
        // A selector is flat: what nests deeper is none, and is not worth a stack of its own.
        let limits = Limits {
            depth_max: SELECTOR_DEPTH_MAX,
            ..Limits::default()
        };
        let mut selectors = Vec::new();
        for text in params.all("match[]") {
            let alternatives = parse_selector(text, &limits)
                .map_err(|error| ApiError::bad_param("match[]", error))?;
            selectors.extend(alternatives);
        }
        Ok(Self {
            selectors,
            range: params.range()?,
            limit: params.limit("limit")?,
        })
    }

    /// The same where something has to be selected.
    pub(super) fn required(params: &Params) -> Result<Self, ApiError> {
        let selection = Self::of(params)?;
        if selection.selectors.is_empty() {
            let message = "no match[] parameter provided";
            return Err(ApiError::new(Kind::BadData, message));
        }
        Ok(selection)
    }

    /// The selectors, or the one that selects everything when there are none.
    pub(super) fn selectors_or_all(&self) -> Vec<Vec<Matcher>> {
        if self.selectors.is_empty() {
            vec![Vec::new()]
        } else {
            self.selectors.clone()
        }
    }
}
