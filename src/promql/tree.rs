//! A query's syntax tree as the HTTP API shows it, and its text in the canonical form.
//!
//! The tree has the shape in which Prometheus' `parse_query` gives it: what its pages draw, and what
//! tools read that look into queries. Times are in milliseconds.

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    AtModifier, BinModifier, BinaryExpr, Call, Expr, LabelModifier, Offset, VectorMatchCardinality,
    VectorSelector,
};
use serde_json::{Value, json};

use super::error::Error;
use super::parse::parse;
use crate::model::METRIC_NAME;

/// The tree of a query whose nesting has been bounded.
pub(super) fn tree(query: &str) -> Result<Value, Error> {
    Ok(node(&parse(query)?.expr))
}

/// The query in the canonical form, on one line.
pub(super) fn line(query: &str) -> Result<String, Error> {
    Ok(parse(query)?.expr.to_string())
}

/// The query in the canonical form, split over lines where it is long.
pub(super) fn format(query: &str) -> Result<String, Error> {
    Ok(parse(query)?.expr.prettify())
}

fn node(expr: &Expr) -> Value {
    match expr {
        Expr::Aggregate(aggregate) => {
            let (grouping, without) = match &aggregate.modifier {
                Some(LabelModifier::Include(labels)) => (labels.labels.clone(), false),
                Some(LabelModifier::Exclude(labels)) => (labels.labels.clone(), true),
                None => (Vec::new(), false),
            };
            json!({
                "type": "aggregation",
                "op": aggregate.op.to_string(),
                "expr": node(&aggregate.expr),
                "param": aggregate.param.as_deref().map(node),
                "grouping": grouping,
                "without": without,
            })
        }
        Expr::Unary(unary) => json!({ "type": "unaryExpr", "op": "-", "expr": node(&unary.expr) }),
        Expr::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.to_string(),
            "lhs": node(&binary.lhs),
            "rhs": node(&binary.rhs),
            "matching": matching(binary),
            "bool": binary.modifier.as_ref().is_some_and(|modifier| modifier.return_bool),
        }),
        Expr::Paren(paren) => json!({ "type": "parenExpr", "expr": node(&paren.expr) }),
        Expr::Subquery(subquery) => {
            let (timestamp, start_or_end) = at(subquery.at.as_ref());
            json!({
                "type": "subquery",
                "expr": node(&subquery.expr),
                "range": millis(subquery.range),
                "offset": offset(subquery.offset.as_ref()),
                "step": millis(subquery.step.unwrap_or_default()),
                "timestamp": timestamp,
                "startOrEnd": start_or_end,
            })
        }
        Expr::NumberLiteral(number) => {
            json!({ "type": "numberLiteral", "val": go_float(number.val) })
        }
        Expr::StringLiteral(text) => json!({ "type": "stringLiteral", "val": text.val }),
        Expr::VectorSelector(selector) => self::selector("vectorSelector", selector, None),
        Expr::MatrixSelector(matrix) => {
            selector("matrixSelector", &matrix.vs, Some(millis(matrix.range)))
        }
        Expr::Call(call) => self::call(call),
        // There are none: nothing of ours makes them.
        Expr::Extension(_) => Value::Null,
    }
}

fn call(call: &Call) -> Value {
    let function = &call.func;
    let types: Vec<String> = function.arg_types.iter().map(ToString::to_string).collect();
    let args: Vec<Value> = call.args.args.iter().map(|arg| node(arg)).collect();
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": types,
            "variadic": function.variadic,
            "returnType": function.return_type.to_string(),
        },
        "args": args,
    })
}

fn selector(kind: &str, selector: &VectorSelector, range: Option<i64>) -> Value {
    let (timestamp, start_or_end) = at(selector.at.as_ref());
    let mut value = json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": offset(selector.offset.as_ref()),
        "matchers": matchers(&selector.matchers, selector.name.as_deref()),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
        "anchored": false,
        "smoothed": false,
    });
    if let Some(range) = range {
        value["range"] = range.into();
    }
    value
}

/// The matchers in the order of the text, then the one that the metric's name stands for.
fn matchers(matchers: &Matchers, name: Option<&str>) -> Vec<Value> {
    let mut list: Vec<Value> = matchers.matchers.iter().map(matcher).collect();
    list.extend(matchers.or_matchers.iter().flatten().map(matcher));
    list.extend(name.map(|name| json!({ "name": METRIC_NAME, "value": name, "type": "=" })));
    list
}

fn matcher(matcher: &Matcher) -> Value {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Re(_) => "=~",
        MatchOp::NotRe(_) => "!~",
    };
    json!({ "name": matcher.name, "value": matcher.value, "type": op })
}

/// How two vectors are matched; nothing where one side is a number.
fn matching(binary: &BinaryExpr) -> Value {
    let is_vector = |expr: &Expr| expr.value_type() == ValueType::Vector;
    if !is_vector(&binary.lhs) || !is_vector(&binary.rhs) {
        return Value::Null;
    }
    let default = BinModifier::default();
    let modifier = binary.modifier.as_ref().unwrap_or(&default);
    let is_set = ["and", "or", "unless"].contains(&&*binary.op.to_string());
    let (card, include) = match &modifier.card {
        VectorMatchCardinality::OneToOne if is_set => ("many-to-many", Vec::new()),
        VectorMatchCardinality::OneToOne => ("one-to-one", Vec::new()),
        VectorMatchCardinality::ManyToOne(labels) => ("many-to-one", labels.labels.clone()),
        VectorMatchCardinality::OneToMany(labels) => ("one-to-many", labels.labels.clone()),
        VectorMatchCardinality::ManyToMany => ("many-to-many", Vec::new()),
    };
    let (labels, on) = match &modifier.matching {
        Some(LabelModifier::Include(labels)) => (labels.labels.clone(), true),
        Some(LabelModifier::Exclude(labels)) => (labels.labels.clone(), false),
        None => (Vec::new(), false),
    };
    json!({
        "card": card,
        "labels": labels,
        "on": on,
        "include": include,
        "fillValues": { "lhs": modifier.fill_values.lhs, "rhs": modifier.fill_values.rhs },
    })
}

/// The time of an `@`, or which end of the query it names.
fn at(modifier: Option<&AtModifier>) -> (Option<i64>, Option<&'static str>) {
    match modifier {
        None => (None, None),
        Some(AtModifier::Start) => (None, Some("start")),
        Some(AtModifier::End) => (None, Some("end")),
        Some(AtModifier::At(time)) => {
            let epoch = std::time::SystemTime::UNIX_EPOCH;
            let ms = match time.duration_since(epoch) {
                Ok(after) => millis(after),
                Err(before) => -millis(before.duration()),
            };
            (Some(ms), None)
        }
    }
}

fn offset(offset: Option<&Offset>) -> i64 {
    match offset {
        None => 0,
        Some(Offset::Pos(span)) => millis(*span),
        Some(Offset::Neg(span)) => -millis(*span),
    }
}

fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Go's `strconv.FormatFloat(value, 'f', -1, 64)`.
fn go_float(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_show_their_matchers_and_times() {
        let shown = tree(r#"rate(up{job=~"a.*",x!="1"}[5m] offset -1m @ 1.5)"#).unwrap();
        assert_eq!(
            shown,
            json!({
                "type": "call",
                "func": { "name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector" },
                "args": [{
                    "type": "matrixSelector",
                    "name": "up",
                    "range": 300_000,
                    "offset": -60_000,
                    "matchers": [
                        { "name": "job", "value": "a.*", "type": "=~" },
                        { "name": "x", "value": "1", "type": "!=" },
                        { "name": "__name__", "value": "up", "type": "=" },
                    ],
                    "timestamp": 1500,
                    "startOrEnd": null,
                    "anchored": false,
                    "smoothed": false,
                }],
            })
        );
    }

    #[test]
    fn operators_show_how_they_match() {
        let shown = tree("a * on(x) group_left(y) b").unwrap();
        assert_eq!(
            shown["matching"],
            json!({
                "card": "many-to-one", "labels": ["x"], "on": true, "include": ["y"],
                "fillValues": { "lhs": null, "rhs": null },
            })
        );
        assert_eq!(tree("a and b").unwrap()["matching"]["card"], "many-to-many");
        let compared = tree("a > bool 2").unwrap();
        assert_eq!(compared["matching"], Value::Null);
        assert_eq!(
            (&compared["op"], &compared["bool"]),
            (&json!(">"), &json!(true))
        );
        assert_eq!(
            compared["rhs"],
            json!({ "type": "numberLiteral", "val": "2" })
        );
    }

    #[test]
    fn aggregations_and_subqueries_show_their_parts() {
        let shown = tree("topk by (a, b) (3, x[1h:5m] @ end())");
        // A range is no operand of topk.
        assert!(shown.is_err());
        let shown = tree("sum without (a) (max_over_time(x[1h:5m] @ end()))").unwrap();
        assert_eq!(
            (&shown["op"], &shown["without"]),
            (&json!("sum"), &json!(true))
        );
        assert_eq!(
            (&shown["grouping"], &shown["param"]),
            (&json!(["a"]), &Value::Null)
        );
        let subquery = &shown["expr"]["args"][0];
        assert_eq!(subquery["type"], "subquery");
        assert_eq!(
            (&subquery["range"], &subquery["step"]),
            (&json!(3_600_000), &json!(300_000))
        );
        assert_eq!(subquery["startOrEnd"], "end");
    }

    #[test]
    fn long_queries_are_split_over_lines() {
        assert_eq!(
            format("sum  by(a)(rate( x [5m]))").unwrap(),
            "sum by (a) (rate(x[5m]))"
        );
        let long = format!("sum({}) + sum({})", "a".repeat(60), "b".repeat(60));
        assert_eq!(
            format(&long).unwrap(),
            format!("  sum({})\n+\n  sum({})", "a".repeat(60), "b".repeat(60))
        );
    }
}
