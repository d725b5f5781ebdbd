//! No watch feeds on what detection itself writes.

use promql_parser::label::{Matcher, Matchers};
use promql_parser::parser::{self, Expr};

use crate::model::METRIC_NAME;

/// What detection and alerting write: a watch that reads them would feed on itself.
const WRITTEN: [&str; 7] = [
    "cutover_anomaly",
    "cutover_anomaly_score",
    "cutover_anomaly_expected",
    "cutover_anomaly_lower",
    "cutover_anomaly_upper",
    "ALERTS",
    "ALERTS_FOR_STATE",
];

/// Longer than any expression that someone wrote.
const EXPR_BYTES_MAX: usize = 16 << 10;

/// Whether an expression can be watched; the error is the reason why not.
pub(super) fn check_expr(expr: &str) -> Result<(), String> {
    if expr.len() > EXPR_BYTES_MAX {
        return Err(format!(
            "its expression is longer than {EXPR_BYTES_MAX} bytes"
        ));
    }
    let parsed = parser::parse(expr).map_err(|reason| format!("{reason} in {expr:?}"))?;
    match find_written(&parsed) {
        None => Ok(()),
        Some(metric) => Err(format!(
            "{expr:?} may select {metric}, which detection itself writes; name the metrics it needs"
        )),
    }
}

/// The first metric of [`WRITTEN`] that a selector of the expression can select.
fn find_written(expr: &Expr) -> Option<&'static str> {
    match expr {
        Expr::Aggregate(aggregate) => find_written(&aggregate.expr).or_else(|| {
            aggregate
                .param
                .as_ref()
                .and_then(|param| find_written(param))
        }),
        Expr::Unary(unary) => find_written(&unary.expr),
        Expr::Binary(binary) => find_written(&binary.lhs).or_else(|| find_written(&binary.rhs)),
        Expr::Paren(paren) => find_written(&paren.expr),
        Expr::Subquery(subquery) => find_written(&subquery.expr),
        Expr::Call(call) => call
            .args
            .args
            .iter()
            .find_map(|argument| find_written(argument)),
        Expr::VectorSelector(selector) => selected(selector.name.as_deref(), &selector.matchers),
        Expr::MatrixSelector(selector) => {
            selected(selector.vs.name.as_deref(), &selector.vs.matchers)
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => None,
    }
}

fn selected(name: Option<&str>, matchers: &Matchers) -> Option<&'static str> {
    let passes = |all: &[Matcher], metric: &str| {
        all.iter()
            .filter(|matcher| matcher.name == METRIC_NAME)
            .all(|matcher| matcher.is_match(metric))
    };
    WRITTEN.into_iter().find(|metric| {
        name.is_none_or(|name| name == *metric)
            && passes(&matchers.matchers, metric)
            && (matchers.or_matchers.is_empty()
                || matchers.or_matchers.iter().any(|all| passes(all, metric)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_does_not_feed_on_what_detection_writes() {
        for expr in [
            "cutover_anomaly_score",
            "max(rate(cutover_anomaly[5m]))",
            "{__name__=~\"cutover_.*\"}",
            "{job=\"a\"}",
            "1 + topk(scalar(ALERTS), up)",
            "{__name__=\"up\" or __name__=\"ALERTS\"}",
            "max_over_time(cutover_anomaly_upper[1h:1m])",
        ] {
            let reason = check_expr(expr).unwrap_err();
            assert!(
                reason.contains("detection itself writes"),
                "{expr}: {reason}"
            );
        }
        for expr in [
            "up",
            "rate(cutover_detect_steps_total[5m])",
            "{__name__=~\"cdc_.*\"}",
            "{__name__!~\"cutover_.*|ALERTS.*\",job=\"a\"}",
        ] {
            assert_eq!(check_expr(expr), Ok(()), "{expr}");
        }
    }
}
