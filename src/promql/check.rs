//! What can be said of a query without evaluating it: whether it is right, and what it reads.

use std::time::Duration;

use super::error::Error;
use super::limit::Limits;
use super::plan::{At, Kind, Node, Shift, Source, ValueType};
use super::{lower, on_a_fitting_stack, tree};
use crate::model::Matcher;

/// A query that is right, gives one value for each series at each time, and what it reads.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The query in the canonical form, on one line.
    pub text: String,
    /// One list of matchers for each alternative of each selector.
    pub selectors: Vec<Vec<Matcher>>,
    /// How far back from the time of evaluation it reads beyond the lookback; `None`: to a fixed time.
    pub reach: Option<Duration>,
}

/// Checks a query that is to be evaluated again and again, such as a rule's.
pub fn check(query: &str, limits: &Limits) -> Result<Checked, Error> {
    on_a_fitting_stack(query, limits, || {
        let mut plan = lower::plan(query)?;
        let kind = plan.root.value_type();
        if matches!(kind, ValueType::Text | ValueType::Range) {
            return Err(Error::bad_data(format!(
                "the expression is a {}, it must be a scalar or an instant vector",
                kind.name()
            )));
        }
        Ok(Checked {
            text: tree::line(query)?,
            reach: reach(&mut plan.root),
            selectors: plan
                .selections
                .into_iter()
                .flat_map(|selection| selection.branches)
                .collect(),
        })
    })
}

/// All windows and offsets one after the other: at least as far as any selector reads.
fn reach(root: &mut Node) -> Option<Duration> {
    let mut reach_ms = Some(0_i64);
    let mut add = |shift: Shift, window_ms: i64| {
        reach_ms = match shift.at {
            Some(At::Time(_)) => None,
            _ => reach_ms.map(|ms| {
                ms.saturating_add(window_ms)
                    .saturating_add(shift.offset_ms.max(0))
            }),
        };
    };
    root.each_mut(&mut |node| match &node.kind {
        Kind::Select(select) => add(select.shift, 0),
        Kind::Range(range) => {
            // A subquery begins at a multiple of its step.
            let step_ms = match &range.source {
                Source::Samples(_) => 0,
                Source::Subquery { step_ms, .. } => *step_ms,
            };
            add(range.shift, range.window_ms.saturating_add(step_ms));
        }
        _ => {}
    });
    reach_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(query: &str) -> Result<Checked, String> {
        check(query, &Limits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_query_reads_is_known() {
        let query = checked("sum  by(a)(rate(x{b='1'}[5m] offset 1h)) > bool 2").unwrap();
        assert_eq!(
            query.text,
            "sum by (a) (rate(x{b=\"1\"}[5m] offset 1h)) > bool 2"
        );
        assert_eq!(query.reach, Some(Duration::from_secs(3_900)));
        assert_eq!(query.selectors.len(), 1);
        let nested = checked("max_over_time(rate(x[5m])[1h:1m])").unwrap();
        assert_eq!(nested.reach, Some(Duration::from_secs(3_960)));
        assert_eq!(checked("x @ 5").unwrap().reach, None);
        assert_eq!(checked("1").unwrap().reach, Some(Duration::ZERO));
    }

    #[test]
    fn what_has_no_value_at_a_time_is_refused() {
        assert_eq!(
            checked("x[5m]").unwrap_err(),
            "the expression is a range vector, it must be a scalar or an instant vector"
        );
        assert!(checked("\"text\"").unwrap_err().contains("string"));
        assert!(checked("rate(x)").is_err() && checked("x{").is_err());
        let deep = format!("{}x{}", "(".repeat(500), ")".repeat(500));
        assert!(checked(&deep).is_ok(), "on a stack of its own");
    }
}
